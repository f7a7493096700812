"""The example of poses, and the stick figures that it draws for itself."""

from functools import partial

import numpy as np
import pytest
from places import ROOT

FOLDER = ROOT / "examples" / "pose"
SMALL = ["--layers", "1", "--width", "16", "--heads", "2", "--image_size", "32", "--num_train_epochs", "2"]
SMALL += ["--pretraining_epochs", "1", "--warmup_steps", "5", "--surrogate_learn_again", "0"]
SMALL += ["--surrogate_group_size", "8", "--disable_tqdm", "True", "--use_cpu"]


@pytest.fixture
def figures(folder):
    import stick_figures

    return stick_figures


@pytest.fixture
def run(run_script):
    return partial(run_script, "run_pose.py", *SMALL)


def test_figures_vary_and_some_joints_are_hidden(figures):
    splits = figures.load(train=60, validation=4, test=4)
    poses, visible = (np.array(splits["train"][name][:]) for name in ("keypoints", "visible"))
    assert poses.shape == (60, 14, 2) and splits["train"][0]["image"].size == (64, 64)
    assert 0.7 < visible.mean() < 0.98 and (poses[visible] >= 0).all() and (poses[visible] <= 63).all()
    left, right = (figures.NAMES.index(f"{side}_shoulder") for side in ("left", "right"))
    assert (poses[:, left, 0] > poses[:, right, 0]).mean() > 0.95
    assert poses.std(0).min() > 2
    again = figures.load(train=60, validation=4, test=4)["train"]
    assert again["keypoints"][:] == splits["train"]["keypoints"][:] and again[7]["image"] == splits["train"][7]["image"]


def test_the_example_trains_both_arms_from_one_warm_start(run, tmp_path, capsys):
    results = run("--max_train_samples", "200", "--max_eval_samples", "20")
    assert [row["arm"] for row in results["arms"]] == ["squared_error", "surrogate"]
    assert results["warm_start"]["updates"] == 9 and all(row["updates"] == 12 for row in results["arms"])
    for row in results["arms"]:
        assert all(0 <= row[name] <= 1 for name in ("pck", "oks", "ap", "pck_validation"))
    assert (tmp_path / "out" / "skeletons.png").read_bytes().startswith(b"\x89PNG")
    assert "| surrogate | " in capsys.readouterr().out


def test_files_and_losses_that_are_written_by_hand_are_taken(run, figures, tmp_path):
    splits = figures.load(train=140, validation=10, test=10)
    files = []
    for split, rows in splits.items():
        rows.to_parquet(tmp_path / f"{split}.parquet")
        files += [f"--{split}_file", str(tmp_path / f"{split}.parquet")]
    results = run(*files, "--loss", "heatmap_cross_entropy", "soft_argmax", "--metric_options", '{"threshold": 0.3}')
    assert [row["arm"] for row in results["arms"]] == ["heatmap_cross_entropy", "soft_argmax"]
