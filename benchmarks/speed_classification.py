"""What learning a loss of a classifier's metric costs on GoEmotions, and what a training step on it costs."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from classification_metrics import JUDGES
from classifiers import BATCH, CORPORA, HELD_OUT_SHARE, arguments, load_texts, optimizer_of
from timing import timed

from reloss_hf import ReLossTrainer, ReLossTrainingArguments
from reloss_hf.tasks.classification.losses import ClassCosts

# Of the warm start, in the mean of three seeds, and the one after it.
EPOCHS = 9


def time_classification(shared: Path, rounds: int) -> dict:
    """Steps on both losses, learning, and looks at the slice take turns."""
    data = load_texts(CORPORA["go_emotions"], shared)
    model = data.new_model()
    judge = JUDGES["go_emotions"]["macro F1"]
    arms = {
        "cross_entropy": {},
        "surrogate": {"surrogate": ClassCosts(classes=len(data.names))},
        "learning": {
            "metric": judge.metric,
            "metric_options": judge.options,
            "surrogate_dataset": data.held_out,
        },
    }
    switches = {"cross_entropy": None, "surrogate": 0, "learning": 2}
    trainers = {
        name: ReLossTrainer(
            model,
            ReLossTrainingArguments(**arguments(Path("out/speed"), data, surrogate_start=switches[name])),
            train_dataset=data.rest,
            data_collator=data.collate,
            **changes,
        )
        for name, changes in arms.items()
    }
    trainers["cross_entropy"].accelerator.prepare_model(model)  # the model's own precision, as in training
    steps = {name: training_step(trainers[name]) for name in ("cross_entropy", "surrogate")}
    rows = data.rest.sort("length").select_columns(["input_ids", "labels"])
    starts = range(len(rows) // 16, len(rows), len(rows) // 8)  # batches of one length, as in training
    batches = [data.collate([rows[row] for row in range(start, start + BATCH)]) for start in starts]
    learner = trainers["learning"].learning
    measured = {name: [] for name in ("cross_entropy", "surrogate", "slice", "look", "learning")}
    for number in range(rounds + 1):
        for batch in batches:
            for name, step in steps.items():
                measured[name].append(timed(lambda step=step, batch=batch: step(batch)))
        parts = [learner._predict(model, rows) for rows in (learner._rows, learner._watched_rows)]
        measured["slice"].append(timed(lambda: learner._predict(model, learner._rows)))
        measured["look"].append(timed(lambda: learner._predict(model, learner._watched_rows)))
        measured["learning"].append(timed(lambda parts=parts: learner.learner.learn(*parts)))
        if number == 0:  # the first round is not counted
            measured = {name: [] for name in measured}
    median = {name: statistics.median(values) for name, values in measured.items()}
    again = ReLossTrainingArguments("out/speed").surrogate_learn_again
    learning = (again + 1) * (median["slice"] + median["look"] + median["learning"]) + 2 * median["look"]
    updates = EPOCHS * math.ceil((1 - HELD_OUT_SHARE) * CORPORA["go_emotions"].examples / BATCH)
    return {
        "classification_learning_share": round(learning / (learning + updates * median["cross_entropy"]), 4),
        "classification_step_time_ratio": round(median["surrogate"] / median["cross_entropy"], 3),
        "classification_step_seconds": round(median["cross_entropy"], 4),
        "classification_learning_seconds": round(median["learning"], 3),
        "classification_slice_seconds": round(median["slice"] + median["look"], 3),
    }


def training_step(trainer: ReLossTrainer) -> Callable[[dict], None]:
    optimizer = optimizer_of(trainer.model)
    trainer.current_gradient_accumulation_steps = 1

    def step(batch: dict) -> None:
        trainer.model.train()
        trainer.training_step(trainer.model, dict(batch))
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step
