"""A task is one folder and the line that names it: here it is a few lines of a test, and all of the library works.

A model reads an essay, here four numbers, and grades it by three criteria, from 0 to 9. The page `adding-a-task` shows
this same code; `test_docs` compares them.
"""

import json
from typing import ClassVar

import evaluate
import pytest
import torch
from huggingface_hub import ModelCard
from torch import nn
from torch.nn.functional import softplus

import reloss_hf.tasks
from reloss_hf import (
    GroupMetric,
    Predictions,
    ReLossTrainer,
    ReLossTrainingArguments,
    SurrogateLoss,
    collect_predictions,
)
from reloss_hf.cli import main
from reloss_hf.diagnosis.diagnosis import diagnose
from reloss_hf.diagnosis.report import table, write_report
from reloss_hf.diagnosis.verdict import verdict
from reloss_hf.sharing.model_card import write_model_card
from reloss_hf.tasks.base import NamedMetric, Task, uniform_draws


class GradeLoss(SurrogateLoss):
    """Reads `grades`, from the model, and `gold_grades`. Both have the shape `(n, criteria)`."""

    task = "grading"
    reads = ("grades", "gold_grades")
    scores = ("grades",)
    base_loss_name = "squared error"

    @staticmethod
    def cross_entropy(features):  # the loss before the switch, whatever it is
        return (features["grades"] - features["gold_grades"]).square().mean(1)


class SquaredError(GradeLoss):
    def score(self, features):
        return self.cross_entropy(features)


class AbsoluteError(GradeLoss):
    def score(self, features):
        return (features["grades"] - features["gold_grades"]).abs().mean(1)


class MissedGrades(GradeLoss):
    """Learns how far a grade may lie from the gold one."""

    about = "counts missed grades, and not how far they miss"
    limits = ("It knows grades that are one apart.",)

    def __init__(self):
        super().__init__()
        self.width = nn.Parameter(torch.zeros(()))

    def score(self, features):
        distance = (features["grades"] - features["gold_grades"]) / softplus(self.width)
        return 1 - (-distance.square()).exp().mean(1)


def agreement(predictions, references):
    """The share of grades that equal the gold ones."""
    gold = [reference["grades"] for reference in references]
    return (torch.tensor(predictions) == torch.tensor(gold)).float().mean().item()


class GradingTask(Task):
    name = "grading"
    does = "grades essays"
    columns = ("id",)
    labels = ("labels",)
    logits = ("grades",)  # the outputs that features are made from
    default_surrogate = MissedGrades
    default_loss = AbsoluteError
    hand_made = (SquaredError, AbsoluteError)
    metrics: ClassVar = {"agreement": NamedMetric(lambda: agreement)}
    group_size = 4
    needs_processing_class = False

    @classmethod
    def handles(cls, model):
        return False  # transformers knows no class of models that grade

    @classmethod
    def fits(cls, outputs, inputs):
        return "grades" in outputs and "labels" in inputs and outputs["grades"].shape == inputs["labels"].shape

    def require_labels(self, inputs):
        if inputs.get("labels") is None:
            raise ValueError(f"the batch has no 'labels', only {sorted(inputs)}: add the gold grades to the data set")

    def batch_size(self, inputs):
        return len(inputs["labels"])

    def weight(self, inputs):
        return torch.tensor(self.batch_size(inputs))

    def without_labels(self, inputs):
        return {name: value for name, value in inputs.items() if name not in ("labels", *self.columns)}

    def base_loss(self, model_loss, model, inputs):  # this model computes no loss of its own
        outputs = model(**self.without_labels(inputs))
        features = self.features(model, outputs, inputs, ())
        return GradeLoss.cross_entropy(features).mean(), outputs

    def features(self, model, outputs, inputs, reads):
        return {"grades": outputs["grades"].float(), "gold_grades": inputs["labels"].float()}

    def forced_predictions(self, outputs, inputs, candidates, seeds):
        features = self.features(None, outputs, inputs, ())
        features = {name: value[: len(seeds)].detach().cpu() for name, value in features.items()}
        ids = inputs["id"][: len(seeds)].tolist()
        return Predictions.concatenate([self._predictions(one, features, ids, seeds) for one in candidates])

    def _predictions(self, candidate, features, ids, seeds):
        grades, gold = features["grades"], features["gold_grades"]
        changed = uniform_draws(seeds, grades.shape[1]) < candidate.corruption
        grades = torch.where(changed, gold if candidate.improve else (gold + 2) % 10, grades)
        return Predictions(
            features={"grades": grades, "gold_grades": gold},
            predictions=grades.round().tolist(),
            references=[{"id": id, "grades": row} for id, row in zip(ids, gold.tolist(), strict=True)],
            candidates=torch.full((len(ids),), candidate.id),
        )

    def sample_pair(self):
        return [3.0, 4.0, 5.0], {"id": 0, "grades": [3.0, 4.0, 5.0]}


class Grader(nn.Module):
    """A model that transformers does not know."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, essay, labels=None):  # the loss is the task's
        return {"grades": self.layer(essay)}


def make_essays(count, seed=0):
    """Essays of four numbers. Three grades follow from the numbers, but nobody can guess some of them."""
    draw = torch.Generator().manual_seed(seed)
    essays = torch.randn(count, 4, generator=draw)
    grades = 4.5 + essays @ torch.randn(4, 3, generator=torch.Generator().manual_seed(9))
    anything = 10 * torch.rand(count, 3, generator=draw)
    grades = torch.where(torch.rand(count, 3, generator=draw) < 0.2, anything, grades).clamp(0, 9).round()
    return [{"id": i, "essay": essays[i], "labels": grades[i]} for i in range(count)]


SETTINGS = {
    "max_steps": 60,
    "surrogate_start": 0.7,
    "surrogate_snapshots": 4,
    "per_device_train_batch_size": 32,
    "learning_rate": 0.1,
    "logging_steps": 10,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
}


@pytest.fixture
def registered(monkeypatch):
    """The one line that names the task."""
    monkeypatch.setattr(reloss_hf.tasks, "TASKS", (*reloss_hf.tasks.TASKS, GradingTask))


@pytest.fixture
def build(registered, tmp_path):
    def make(trainer=None, **changes):
        torch.manual_seed(0)
        arguments = {"model": Grader(), "train_dataset": make_essays(512), "metric": "agreement"} | (trainer or {})
        args = ReLossTrainingArguments(str(tmp_path / "out"), **SETTINGS | changes)
        return ReLossTrainer(args=args, **arguments)

    return make


@pytest.mark.parametrize("task", [None, "grading"])
def test_a_task_of_ones_own_is_trained_through_the_switch_saved_diagnosed_and_carded(build, tmp_path, task):
    trainer = build({"task": task, "eval_dataset": make_essays(64, seed=1)})
    trainer.train()
    assert isinstance(trainer.task, GradingTask)
    report = trainer.surrogate_report
    assert report.objection is None and report.base_loss_name == "squared error"
    assert report.metric == "agreement" and report.surrogate == "MissedGrades"
    assert trainer.learner.group_size == 4
    logs = [entry for entry in trainer.state.log_history if "surrogate_in_force" in entry]
    assert [entry["surrogate_in_force"] for entry in logs] == [0, 0, 0, 0, pytest.approx(0.8), 1]
    assert all("squared_error" in entry for entry in logs)
    names = {name for entry in trainer.state.log_history for name in entry}
    assert {"squared_error_spearman", "squared_error_spearman_within"} <= names
    assert not [name for name in names if "cross" in name]
    assert trainer.evaluate()["eval_loss"] > 0

    trainer.save_model(tmp_path / "saved")
    loaded = SurrogateLoss.from_pretrained(tmp_path / "saved" / "surrogate")
    assert type(loaded).__name__ == "MissedGrades" and loaded.width.equal(trainer.surrogate.width)

    predictions = Predictions.concatenate([collect_predictions(trainer, make_essays(200, seed=2)), trainer.predictions])
    diagnosis = diagnose(predictions, GroupMetric("agreement"), {"learned": loaded}, resamples=50, progress=False)
    assert diagnosis.group_size == 4
    assert [loss.name for loss in diagnosis.losses] == ["squared error", "AbsoluteError", "learned"]
    assert diagnosis.losses[-1].gain.low > 0
    write_report(diagnosis, tmp_path / "report", "essays", "reloss diagnose essays")
    card = write_model_card(loaded, tmp_path / "saved" / "surrogate", "me/grades")
    said = {
        "verdict": " ".join(verdict(diagnosis)),
        "table": table(diagnosis),
        "report": (tmp_path / "report" / "report.html").read_text(encoding="utf-8"),
        "card": card.read_text(encoding="utf-8"),
    }
    for name, text in said.items():
        assert "squared error" in text.lower(), name
        assert "cross-entropy" not in text.lower() and "token" not in text.lower(), name
    assert "Squared error follows agreement" in said["verdict"]
    assert "one candidate minus that of squared error" in " ".join(said["report"].split())
    assert json.loads((tmp_path / "report" / "diagnosis.json").read_text())["losses"]["squared error"]
    assert "grading" in ModelCard.load(card).data.tags
    assert "counts missed grades" in said["card"] and "- It knows grades that are one apart." in said["card"]


def test_the_command_line_knows_it_too(build, tmp_path, capsys):
    build(save_predictions=True).train()
    folder = str(tmp_path / "out" / "predictions")
    learn = ["learn", folder, "--metric", "agreement", "--output", str(tmp_path / "learned"), "--quiet"]
    assert main(learn) == 0
    assert "MissedGrades" in capsys.readouterr().out
    diagnosed = ["--surrogate", str(tmp_path / "learned"), "--output", str(tmp_path / "report"), "--resamples", "20"]
    assert main(["diagnose", folder, "--metric", "agreement", "--quiet", *diagnosed]) == 0
    printed = capsys.readouterr().out
    assert "squared error" in printed and "cross-entropy" not in printed.lower()


def test_where_no_metric_is_named_its_default_loss_takes_over(build):
    trainer = build({"metric": None}, max_steps=4, surrogate_start=2)
    trainer.train()
    assert type(trainer.surrogate).__name__ == "AbsoluteError" and trainer.surrogate_in_force


def test_a_refused_surrogate_leaves_training_on_the_loss_that_the_task_names(build, caplog):
    def distance(predictions, references):
        gold = [reference["grades"] for reference in references]
        return (torch.tensor(predictions) - torch.tensor(gold)).square().mean().item()

    trainer = build({"metric": distance})
    trainer.train()
    assert trainer.surrogate is None
    assert "Training stays on squared error: squared error orders predictions opposite to the metric" in caplog.text


def test_where_two_tasks_fit_the_error_names_both_and_the_name_of_one_settles_it(build, monkeypatch):
    class OtherTask(GradingTask):
        name = "other_grading"

    monkeypatch.setattr(reloss_hf.tasks, "TASKS", (*reloss_hf.tasks.TASKS, OtherTask))
    with pytest.raises(ValueError, match=r"Grader fits several tasks, \['grading', 'other_grading'\]: pass .* task="):
        build().train()
    trainer = build({"task": "other_grading", "metric": None}, max_steps=1, surrogate_start=None)
    trainer.train()
    assert isinstance(trainer.task, OtherTask)


def test_a_model_that_does_not_decode_is_asked_for_no_generated_predictions(build):
    with pytest.raises(ValueError, match="a model that grades essays generates nothing.*pass surrogate_predictions="):
        build({"task": "grading", "eval_dataset": make_essays(64)}, surrogate_predictions="generate")


def test_without_its_line_the_library_does_not_know_it(build, monkeypatch):
    monkeypatch.setattr(reloss_hf.tasks, "TASKS", reloss_hf.tasks.TASKS[:-1])
    with pytest.raises(ValueError, match=r"Grader with outputs \['grades'\] for a batch of .* fits none of the tasks"):
        build().train()
    with pytest.raises(ValueError, match="task='grading' is none of"):
        build({"task": "grading"})
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    with pytest.raises(ValueError, match="metric='agreement' could not be loaded"):
        GroupMetric("agreement")
