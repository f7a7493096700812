"""The example of poses, and the stick figures that it draws for itself."""

import json
import runpy
import sys

import numpy as np
import pytest
from places import ROOT

FOLDER = ROOT / "examples" / "pose"


@pytest.fixture
def folder(monkeypatch):
    """Of the example, whose modules are found as the script finds them, and forgotten afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield FOLDER
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(FOLDER.parent)):
            del sys.modules[name]


@pytest.fixture
def figures(folder):
    import stick_figures

    return stick_figures


@pytest.fixture
def run(folder, monkeypatch, tmp_path):
    """Run the script in this process, which has imported what takes longest."""

    def run(*arguments):
        size = ["--layers", "1", "--width", "16", "--heads", "2", "--image_size", "32", "--num_train_epochs", "2"]
        size += ["--pretraining_epochs", "1"]
        steps = ["--warmup_steps", "5", "--surrogate_learn_again", "0", "--disable_tqdm", "True", "--use_cpu"]
        monkeypatch.setattr(sys, "argv", ["run_pose.py", *size, *steps, "--surrogate_group_size", "8", *arguments])
        sys.argv += ["--output_dir", str(tmp_path / "out")]
        runpy.run_path(str(folder / "run_pose.py"), run_name="__main__")
        return json.loads((tmp_path / "out" / "results.json").read_text())

    return run


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
