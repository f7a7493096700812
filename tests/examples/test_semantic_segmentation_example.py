"""The example of segmentation, and the scenes that it draws for itself."""

import io
from functools import partial

import datasets
import numpy as np
import pytest
from PIL import Image
from places import ROOT

FOLDER = ROOT / "examples" / "semantic_segmentation"
SMALL = ["--width", "4", "--num_train_epochs", "2", "--surrogate_group_size", "4"]
SMALL += ["--warmup_steps", "2", "--surrogate_learn_again", "0", "--disable_tqdm", "True", "--use_cpu"]


@pytest.fixture
def scenes(folder):
    import scenes

    return scenes


@pytest.fixture
def run(run_script):
    return partial(run_script, "run_semantic_segmentation.py", *SMALL)


def test_scenes_have_large_areas_small_things_and_an_ignored_border(scenes):
    splits = scenes.load(train=60, validation=2, test=4)
    masks = np.stack([np.asarray(mask) for mask in splits["train"]["label"]])
    assert masks.shape == (60, scenes.HEIGHT, scenes.WIDTH)
    assert (masks[:, 0] == scenes.VOID).all() and (masks[:, :, -1] == scenes.VOID).all()
    inner = masks[masks != scenes.VOID]
    shares = dict(zip(scenes.NAMES, np.bincount(inner, minlength=len(scenes.NAMES)) / len(inner), strict=True))
    assert sum(shares[name] for name in ("sky", "wall", "ground")) > 0.8
    assert all(0.002 < shares[name] < 0.03 for name in ("pole", "figure", "wire"))
    again = scenes.load(train=60, validation=2, test=4)["train"]
    assert all(left == right for left, right in zip(splits["train"]["image"], again["image"], strict=True))


def test_the_example_trains_both_arms_from_one_warm_start(run, tmp_path, capsys):
    results = run("--max_train_samples", "100", "--max_eval_samples", "12")
    assert [row["arm"] for row in results["arms"]] == ["cross_entropy", "surrogate"]
    assert results["warm_start"]["updates"] == 14 and all(row["updates"] == 20 for row in results["arms"])
    for row in results["arms"]:
        assert all(0 <= row[name] <= 1 for name in ("mean_iou", "mean_accuracy", "overall_accuracy"))
        assert set(row["iou"]) == {"sky", "wall", "ground", "tree", "pole", "figure", "wire"}
    assert (tmp_path / "out" / "masks.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "| surrogate | " in printed and "| IoU of | sky | wall" in printed


def test_files_with_other_columns_and_classes_are_taken(run, tmp_path):
    draw = np.random.default_rng(0)

    def png(pixels):
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    masks = draw.choice([0, 1, 2, 255], (160, 4, 4)).repeat(8, 1).repeat(8, 2)
    columns = {"photo": [png(np.stack([60 * mask] * 3, -1)) for mask in masks], "mask": [png(mask) for mask in masks]}
    features = datasets.Features({name: datasets.Image() for name in columns})
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "train.parquet")
    named = ["--image_column_name", "photo", "--label_column_name", "mask", "--train_file"]
    results = run(*named, str(tmp_path / "train.parquet"), "--loss", "lovasz", "as_written", "--num_train_epochs", "1")
    assert [row["arm"] for row in results["arms"]] == ["lovasz", "as_written"]
    assert set(results["warm_start"]["iou"]) == {"0", "1", "2"}
