"""Runs the script of an example in this process, which has imported what takes longest."""

import json
import runpy
import sys

import pytest

from reloss_hf.learner import learner_for
from reloss_hf.run import preparation


@pytest.fixture
def folder(request, monkeypatch):
    """`FOLDER` of the test. Its modules are found as the script finds them, and forgotten afterwards."""
    folder = request.module.FOLDER
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder.parent)):
            del sys.modules[name]


@pytest.fixture
def run_script(folder, monkeypatch, tmp_path):
    """`(script, *arguments)` runs it, with `tmp_path / "out"` for its output, and returns its results."""

    def run_script(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *arguments, "--output_dir", str(tmp_path / "out")])
        runpy.run_path(str(folder / script), run_name="__main__")
        return json.loads((tmp_path / "out" / "results.json").read_text())

    return run_script


@pytest.fixture
def few_steps(monkeypatch):
    """Losses are learned in few steps."""

    def learner_of_few_steps(*positional, **keywords):
        learner = learner_for(*positional, **keywords)
        learner.steps = 25
        return learner

    monkeypatch.setattr(preparation, "learner_for", learner_of_few_steps)
