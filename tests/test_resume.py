"""What a run that was killed with SIGKILL comes to when it is resumed."""

import os
import subprocess
import sys
from pathlib import Path

import killed_run
import pytest
import torch
from one_step import flat


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes that are killed: sums over other parts differ in the last digit, and Adam enlarges that."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def killed(warm_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    torch.save(warm_weights, folder / "warm.pt")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, killed_run.__file__, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def unbroken(killed):
    trainer = killed_run.build(killed, "unbroken")
    trainer.train()
    return trainer


@pytest.mark.parametrize("name", killed_run.KILLS)
def test_a_killed_run_resumed_ends_with_the_weights_of_an_unbroken_one(killed, unbroken, name):
    _, saved = killed_run.KILLS[name]
    assert [path.name for path in Path(killed, name).iterdir()] == [f"checkpoint-{saved}"]
    resumed = killed_run.build(killed, name)
    resumed.train(resume_from_checkpoint=True)
    torch.testing.assert_close(flat(resumed.model), flat(unbroken.model), atol=1e-6, rtol=0)
    torch.testing.assert_close(flat(resumed.surrogate), flat(unbroken.surrogate), atol=1e-6, rtol=0)
    assert unbroken.surrogate_in_force
    assert resumed.state.global_step == 20
