"""A model that two processes hold in shards goes through collecting, learning and the switch as one that each holds."""

import json
import os
import subprocess
import sys

import pytest
from places import SUPPORT

SCRIPT = SUPPORT / "sharded_run.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What `sharded_run.py` writes down under torchrun, once for each kind."""
    done = {}

    def start(kind):
        if kind not in done:
            folder = tmp_path_factory.mktemp(kind)
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
            settings = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
            settings["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parent), *sys.path])
            finished = subprocess.run(
                [*command, str(SCRIPT), str(folder), kind], env=os.environ | settings, capture_output=True, text=True,
                timeout=300,
            )  # fmt: skip
            assert finished.returncode == 0, finished.stderr[-6000:]
            done[kind] = [json.loads(path.read_text()) for path in sorted(folder.glob("rank*.json"))]
            assert [rank["world_size"] for rank in done[kind]] == [2, 2]
        return done[kind]

    return start


@pytest.fixture(params=["fsdp2", "zero3"])
def sharded(request, run):
    if request.param == "zero3":
        pytest.importorskip("deepspeed")
    return run(request.param)


def test_each_process_holds_half_of_the_model(run, sharded):
    assert [rank["run"]["share_held"] for rank in run("ddp")] == [1, 1]
    assert [rank["run"]["share_held"] for rank in sharded] == pytest.approx([0.5, 0.5], abs=0.02)


def test_the_losses_are_those_of_a_model_that_is_not_sharded(run, sharded):
    expected = run("ddp")[0]["run"]
    for rank in sharded:
        assert rank["run"]["in_force"] == expected["in_force"]
        assert [*rank["run"]["in_force"].values()] == [0] * 20 + [1] * 4
        assert rank["run"]["examples"] == expected["examples"]
        before, after = (
            [rank["run"]["losses"][str(step)] for step in steps] for steps in (range(1, 21), range(21, 25))
        )
        assert before == pytest.approx([expected["losses"][str(step)] for step in range(1, 21)], rel=1e-3)
        assert after == pytest.approx([expected["losses"][str(step)] for step in range(21, 25)], rel=3e-2)


def test_all_processes_use_one_surrogate(sharded):
    assert sharded[0]["run"]["surrogate"] == sharded[1]["run"]["surrogate"]


def test_a_resumed_run_goes_on_as_the_unbroken_one(sharded):
    for rank in sharded:
        assert rank["run"]["saved_predictions"] == 1
        again = [rank["resumed"]["losses"][str(step)] for step in range(11, 21)]
        assert again == pytest.approx([rank["run"]["losses"][str(step)] for step in range(11, 21)], rel=1e-3)
        assert rank["resumed"]["in_force"] == rank["run"]["in_force"]
        assert rank["resumed"]["examples"] == rank["run"]["examples"]
