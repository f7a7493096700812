import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import SUPPORT
from stand_in_hub import StandInHub

from reloss_hf import NgramSurrogate, SurrogateLoss

SCRIPT = SUPPORT / "hub_run.py"


@pytest.fixture(scope="module")
def hub():
    with StandInHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def run(hub, tmp_path_factory):
    """What a process of `hub_run.py` found, against the stand-in hub, with an empty cache and no token stored."""

    def start(what, *arguments):
        folder = tmp_path_factory.mktemp(what)
        environment = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_HUB_CACHE")}
        environment |= hub.environment | {"HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(SCRIPT), what, str(folder), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads((folder / "facts.json").read_text())

    return start


@pytest.fixture(scope="module")
def trained(run):
    return run("train")


@pytest.fixture(scope="module")
def pushes(hub, trained):
    """The files of the model's repository after every commit, the first of which is empty."""
    return list(hub.repositories["me/toy"].commits.items())


@pytest.fixture(scope="module")
def pulled(hub, run, pushes):
    hub.cut = 1
    return run("pull", pushes[-2][0])


def test_a_surrogate_comes_back_in_another_process_with_bit_equal_losses(trained, pulled):
    assert trained["objection"] is None
    assert pulled["class"] == "LastTokensSurrogate"
    assert pulled["alone"] == pulled["with_model"] == pulled["before_the_last"] == trained["losses"]


def test_pushes_of_the_trainer_take_the_surrogate_along_also_during_training(pushes):
    weights = "surrogate/model.safetensors"
    during_training = [files for _, files in pushes[1:-1]]
    assert during_training
    assert all(weights in files for files in during_training)
    assert weights in pushes[-1][1]


def test_what_was_predicted_for_the_training_data_is_not_pushed(pushes):
    assert not [name for _, files in pushes for name in files if "predictions" in name or "reloss_state" in name]


def test_a_repository_of_a_surrogate_is_private_if_asked_for_and_holds_nothing_to_execute(hub, trained):
    repository = hub.repositories["me/reloss-last-word"]
    assert repository.private
    assert set(repository.branches) == {"main", "unlearned"}
    assert {Path(name).suffix for name in repository.files()} <= {".json", ".safetensors", ".md", ".png"}


def test_each_failure_is_told_in_one_sentence_and_an_upload_cut_off_is_repeated(hub, pulled):
    assert "the upload to 'me/cut' failed" in pulled["cut"]
    assert pulled["repeated"] is None
    assert len(hub.repositories["me/cut"].commits) == 2  # the empty one, and one whole
    assert {"config.json", "model.safetensors"} <= set(hub.repositories["me/cut"].files())
    for name in ("pull_without_token", "pull_wrong_token"):
        assert "it does not exist, or is private: pass token=" in pulled[name]
    assert "the token is missing, wrong, or may not do this: pass token=" in pulled["push_wrong_token"]
    assert "no such branch, tag or commit: check revision=" in pulled["no_revision"]
    assert (
        "surrogate/config.json could not be fetched from the hub: the repository has no such file"
        in (pulled["no_subfolder"])
    )
    assert "'out/surrogate/v1' is no folder here" in pulled["no_name"]


def test_a_folder_without_a_surrogate_or_with_a_damaged_one_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no surrogate: it has no config\.json"):
        SurrogateLoss.from_pretrained(tmp_path)
    NgramSurrogate().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(ValueError, match="is damaged .*: save or download it again"):
        SurrogateLoss.from_pretrained(tmp_path)
