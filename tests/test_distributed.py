import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "distributed_run.py"


def run(processes, folder, **arguments):
    """What `distributed_run.py` prints on each rank under torchrun."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"),
        *(str(SCRIPT), json.dumps({"output_dir": str(folder)} | arguments)),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(path.read_text()) for path in sorted(folder.glob("rank*.json"))]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return run(2, tmp_path_factory.mktemp("two"))


def test_two_processes_share_one_learned_surrogate_bit_for_bit(two):
    assert [rank["world_size"] for rank in two] == [2, 2]
    assert two[0]["surrogate"] == two[1]["surrogate"] is not None
    assert two[0]["weights"] == two[1]["weights"]
    assert two[0]["history"] == two[1]["history"]


def test_two_processes_collect_as_many_predictions_as_one(two, tmp_path):
    one = run(1, tmp_path)
    assert one[0]["world_size"] == 1
    assert two[0]["collected"] + two[1]["collected"] == one[0]["collected"]
    assert two[0]["saved"] == two[1]["saved"] == one[0]["saved"] == one[0]["collected"]
    assert two[0]["examples"] == one[0]["examples"]
