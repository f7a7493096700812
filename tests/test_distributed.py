import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from one_step import EXAMPLES, SURROGATES, gradient
from places import SUPPORT

from reloss_hf import Predictions

SCRIPT = SUPPORT / "distributed_run.py"


@pytest.fixture(scope="module")
def folders(warm_weights, tmp_path_factory):
    """Where `distributed_run.py` writes down what came of it, by the number of processes."""
    root = tmp_path_factory.mktemp("processes")
    found = {processes: root / str(processes) for processes in (1, 2, 4)}
    for folder in found.values():
        folder.mkdir()
        torch.save(warm_weights, folder / "warm.pt")
    return found


@pytest.fixture(scope="module")
def torchrun(folders):
    """Two processes under torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    (folders[2] / "stderr").write_text(start(*launcher, str(SCRIPT), str(folders[2])))


@pytest.fixture(scope="module")
def forked(folders):
    """One process, and four, that are launched likewise."""
    start(str(SCRIPT), str(folders[1]), str(folders[4]))


@pytest.fixture(scope="module")
def run(folders, request):
    def read(processes):
        request.getfixturevalue("torchrun" if processes == 2 else "forked")
        folder = folders[processes]
        ranks = [json.loads(path.read_text()) for path in sorted(folder.glob("rank*.json"))]
        assert [rank["world_size"] for rank in ranks] == [processes] * processes
        return SimpleNamespace(folder=folder, ranks=ranks, stderr=(folder / "stderr").read_text())

    return read


def start(*arguments):
    """What a process of Python, and those that it starts, print to stderr. They are ended together."""
    path = os.pathsep.join([str(SUPPORT), *sys.path])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, errors[-4000:]
    return errors


def facts(ranks, name):
    if name not in ranks[0]:
        pytest.skip("this version of transformers cannot resume several processes on a CPU")
    return [rank[name] for rank in ranks]


def rows(folder):
    predictions = Predictions.load(folder)
    return sorted(zip(predictions.candidates.tolist(), predictions.references, predictions.predictions, strict=True))


RUNS = [(2, "unbroken"), (2, "resumed"), (2, "generated"), (4, "unbroken"), (4, "resumed")]


@pytest.mark.parametrize(("processes", "name"), [*RUNS, (2, "poisoned")])
def test_all_processes_share_one_learned_surrogate_bit_for_bit_and_switch_together(run, processes, name):
    ranks = facts(run(processes).ranks, name)
    shared = [(rank["surrogate"], rank["model"], rank["in_force"], rank["examples"]) for rank in ranks]
    assert shared == shared[:1] * processes
    if name == "unbroken":
        assert ranks[0]["in_force"] == [False] * 16 + [True] * 4


@pytest.mark.parametrize(("processes", "name"), RUNS)
def test_several_processes_learn_from_the_same_predictions_as_one(run, processes, name):
    several, one = (facts(run(n).ranks, name)[0] for n in (processes, 1))
    state = Path(name, "checkpoint-17" if name == "generated" else "checkpoint-20", "reloss_state")
    assert rows(run(processes).folder / state) == rows(run(1).folder / state)
    assert several["examples"] == one["examples"]
    if name == "unbroken":
        assert rows(run(processes).folder / name / "predictions") == rows(run(1).folder / state)


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_learn_the_surrogate_that_one_learns(run, processes):
    several, one = (run(n).ranks[0]["unbroken"]["surrogate_weights"] for n in (processes, 1))
    assert several == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_resumed_run_ends_as_an_unbroken_one(run, processes):
    assert all(rank["difference"] <= 1e-6 for rank in facts(run(processes).ranks, "resumed"))


def test_a_process_whose_scores_are_all_nan_holds_nothing_and_hinders_nobody(run):
    held = [rank["poisoned"]["held"] for rank in run(2).ranks]
    assert held[0] > held[1] == 0
    assert [rank["poisoned"]["examples"] for rank in run(2).ranks] == [held[0]] * 2


def test_there_is_one_progress_bar_and_one_writer(run):
    first = re.compile(r"Learning the surrogate:   0%\|[^\r]*\?it/s\]")  # later ones end in what was measured
    assert [len(first.findall(run(processes).stderr)) for processes in (1, 2, 4)] == [1, 1, 1]
    for processes in (2, 4):
        first, *others = [rank["writes"] for rank in run(processes).ranks]
        assert min(first) > 0
        assert others == [[0, 0]] * len(others)


@pytest.mark.parametrize(
    "name",
    [
        "learned",
        "soft_f1",
        "learned_tags",
        "soft_f1_of_tags",
        "learned_pixels",
        "soft_iou_of_pixels",
        "learned_abstentions",
        "learned_poses",
        "hard_keypoints_of_poses",
        "learned_ctc",
        "ngrams_of_ctc",
        "own_output_of_whisper",
    ],
)
def test_without_texts_two_processes_train_as_one_with_the_batch_split_into_four(run, name):
    (one,), two = ([rank["classes"][name] for rank in run(n).ranks] for n in (1, 2))
    assert two[0] == two[1]
    assert one["in_force"] and two[0]["in_force"]
    assert two[0]["costs"] == pytest.approx(one["costs"], rel=1e-3)
    assert two[0]["weights"] == pytest.approx(one["weights"], abs=1e-4)


def test_a_step_on_two_processes_has_the_gradient_of_one_batch(run, tmp_path):
    found = torch.load(run(2).folder / "gradients.pt")
    assert len(found) == 2 * len(SURROGATES)
    for name, split in found.items():
        whole, _ = gradient(*name.split(", "), EXAMPLES, 1, tmp_path)
        torch.testing.assert_close(split, whole, atol=1e-5, rtol=0, msg=partial("{}: {}".format, name))
