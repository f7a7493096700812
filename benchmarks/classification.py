"""Classifiers trained on a learned loss of a metric, and everything that a sceptic would train or tune instead.

    python benchmarks/classification.py --shared ../shared/data --data go_emotions --seeds 0

One run at a time is trained, and added to the results at once; what is there is skipped. Within a data set and a seed
all arms continue one warm start for an epoch, on the same examples, with the same fresh optimizer and schedule; losses
take over from the third update on. Learning rates, and the power of class weights, are chosen on validation on the
first seed. `--table` prints the tables.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from classification_metrics import JUDGES, decide, tuned_shift
from classification_results import BY_METRIC, Results, print_tables
from classifiers import BATCH, CORPORA, Data, arguments, load_texts, optimizer_of, predict, warm_start
from picture_classifiers import load_pictures
from transformers import logging as transformers_logging

from reloss_hf import ReLossTrainer, ReLossTrainingArguments, SurrogateLoss
from reloss_hf.classes.losses import targets_of
from reloss_hf.learning.functional import example_gradient_norms
from reloss_hf.learning.scale import with_logits
from reloss_hf.surrogate import weighted_mean
from reloss_hf.tasks.classification.hand_made import (
    ClassWeightedCrossEntropy,
    LogitAdjustedCrossEntropy,
    SoftF1Loss,
)

ARMS = ("cross_entropy", "class_weights", "logit_adjustment", "as_written", *BY_METRIC)
CONTROLS = {("go_emotions", "macro F1"), ("go_emotions", "micro F1"), ("tweet_eval_emoji", "macro F1"), ("cola", "MCC")}
SWITCH = 2
REPORTED = ("spearman", "spearman_cross_entropy", "held_out_metric", "foreseen_metric", "seconds", "objection")


class TimedTrainer(ReLossTrainer):
    """Counts the seconds of learning, forward passes over the slice included, and keeps the reports."""

    learning_seconds = 0.0

    def training_step(self, *positional, **keywords):
        if self.learning is not None and self.state.global_step == 0:
            self.reports, before_step = [], self.learning.before_step

            def timed(model):
                started = time.perf_counter()
                learned = before_step(model)
                self.learning_seconds += time.perf_counter() - started
                return learned

            self.learning.before_step = timed
        return super().training_step(*positional, **keywords)

    def _learn(self, *evidence):
        learned = super()._learn(*evidence)
        self.reports.append(
            learned[1].as_dict() | {"objection": learned[2]} if learned[1] else {"objection": learned[2]}
        )
        return learned


class Control(TimedTrainer):
    """Trains on what it learns, come what may."""

    def training_step(self, *positional, **keywords):
        self.learning._look = lambda *positional, **keywords: None  # that the metric falls is no reason to go back
        return super().training_step(*positional, **keywords)

    def _learn(self, *evidence):
        surrogate, report, _ = super()._learn(*evidence)
        return surrogate, report, None


class ShuffledControl(Control):
    """Gives the scores to the wrong candidates while it learns."""

    def _learn(self, *evidence):
        metric = self.learner.metric
        self.learner.metric = _Shuffled(metric)
        try:
            return super()._learn(*evidence)
        finally:
            self.learner.metric = metric


class AsWritten(Control):
    """Learns no costs: all are 1, with the shift that goes with them."""

    def _learn(self, *evidence):
        self.learner.steps = 0
        return super()._learn(*evidence)


TRAINERS = {"surrogate": TimedTrainer, "shuffled_control": ShuffledControl, "as_written": AsWritten}


class _Shuffled:
    def __init__(self, metric):
        self.metric, self.generator = metric, np.random.default_rng(0)

    def __getattr__(self, name):
        return getattr(self.metric, name)

    def __call__(self, *positional):
        return self.generator.permutation(self.metric(*positional))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default="../shared/data", help="the folder of the data sets")
    parser.add_argument("--pictures_model", type=Path, help="the folder of EfficientNet-Lite0, for clothing")
    parser.add_argument("--data", nargs="+", choices=JUDGES, default=list(JUDGES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--metrics", nargs="+", help="of those that arms are trained on; all by default")
    parser.add_argument("--factors", nargs="+", type=float, default=[2 / 3, 4 / 3], help="of the warm start's rates")
    parser.add_argument("--runs", type=Path, default="runs/classification", help="where warm starts are stored")
    parser.add_argument("--results", type=Path, default="benchmarks/results", help="the folder of the JSON files")
    parser.add_argument("--at_most", type=int, default=10**6, help="runs to be trained before it ends")
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, and end")
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    results = Results(options.results)
    if options.table:
        return print_tables(results)
    for seed in options.seeds:
        for name in options.data:
            loaded: dict = {}
            for arm, metric, variant in planned(results, options, name, seed):
                if results.has(name, seed, arm, metric, variant):
                    continue
                if options.at_most == 0:
                    return None
                if not loaded:
                    loaded = load(options, name, seed)
                run = run_arm(arm, metric, variant, name, seed, folder=options.runs, **loaded)
                results.add(run)
                print(f"{name}, seed {seed}: {arm} {metric or ''} {variant}: {run['test']}", flush=True)
                options.at_most -= 1


def planned(results: Results, options, name: str, seed: int):
    """Arms, the metrics they are trained on, and their settings: all on the first seed, the chosen ones later."""
    for metric, judge in JUDGES[name].items():
        for arm in options.arms:
            if arm in BY_METRIC and options.metrics and metric not in options.metrics:
                continue
            if arm == "logit_adjustment" and name == "go_emotions":  # of several labels, weights are the usual remedy
                continue
            if arm == "soft_f1" and judge.soft_f1 is None:
                continue
            if arm == "shuffled_control" and (name, metric) not in CONTROLS:
                continue
            trained_on = metric if arm in BY_METRIC else None
            if seed > 0:
                yield arm, trained_on, results.chosen(name, arm, trained_on, metric)
                continue
            for power in (1.0, 0.5) if arm == "class_weights" else (None,):
                for factor in options.factors:
                    yield arm, trained_on, {"factor": round(factor, 3)} | ({"power": power} if power else {})


def load(options, name: str, seed: int) -> dict:
    corpus = CORPORA[name]
    if corpus.pictures:
        data = load_pictures(corpus, options.shared, options.pictures_model)
    else:
        data = load_texts(corpus, options.shared)
    judge = next(iter(JUDGES[name].values()))
    references = data.labels("validation")
    start = warm_start(corpus, data, seed, options.runs, lambda logits: judge(decide(logits, data.several), references))
    return {"data": data, "start": start}


def run_arm(
    arm: str, metric: str | None, variant: dict, name: str, seed: int, data: Data, start: dict, folder: Path
) -> dict:
    """Train, and measure all metrics of the data."""
    torch.manual_seed(seed)
    model = data.new_model()
    model.load_state_dict(start["model"])
    changes = {}
    if arm in TRAINERS:
        judge = JUDGES[name][metric] if metric else next(iter(JUDGES[name].values()))
        changes = {"metric": judge.metric, "metric_options": judge.options, "surrogate_dataset": data.held_out}
    elif arm != "cross_entropy":
        changes = {"surrogate": scaled(hand_made(arm, metric, variant, name, data), batches_of(data, start))}
    switch = None if arm == "cross_entropy" else SWITCH
    args = arguments(folder, data, num_train_epochs=1, warmup_steps=20, seed=seed, surrogate_start=switch)
    trainer = TRAINERS.get(arm, TimedTrainer)(
        model,
        ReLossTrainingArguments(**args),
        train_dataset=data.rest,
        data_collator=data.collate,
        optimizers=(optimizer_of(model, variant["factor"]), None),
        **changes,
    )
    run = {"data": name, "seed": seed, "arm": arm, "metric": metric, "variant": variant}
    run |= {"bf16": data.bf16} | trained(trainer)
    run["warm_start"] = {"curve": start["curve"], "seconds": round(start["seconds"], 1)}
    logits = {part: predict(model, data, part) for part in ("held_out", "validation", "test")}
    settings = "-".join(str(value) for value in (name, seed, arm, metric, *variant.values()) if value is not None)
    torch.save(logits, folder / f"logits-{settings.replace('/', '')}.pt")
    references = {part: data.labels(part) for part in logits}
    for part in ("validation", "test"):
        decided = decide(logits[part], data.several)
        run[part] = {key: round(judge(decided, references[part]), 3) for key, judge in JUDGES[name].items()}
    if arm == "cross_entropy":
        run["tuned"] = {}
        for key, judge in JUDGES[name].items():
            shift = tuned_shift(logits["validation"], references["validation"], judge, data.several)
            run["tuned"][key] = round(judge(decide(logits["test"] + shift, data.several), references["test"]), 3)
    return run


def trained(trainer: TimedTrainer) -> dict:
    """Train, and tell how long it took and what was learned."""
    started = time.perf_counter()
    trainer.train()
    run = {"seconds": round(time.perf_counter() - started, 1)}
    if trainer.learning is not None:
        run["learning_seconds"] = round(trainer.learning_seconds, 1)
        run["learner"] = trainer.learner._settings()["hyperparameters"] | {"group_size": trainer.learner.group_size}
        run["gave_up"] = trainer.learning._gave_up
        run["reports"] = [{key: report.get(key) for key in REPORTED} for report in trainer.reports]
    return run


def hand_made(arm: str, metric: str | None, variant: dict, name: str, data: Data):
    labels = torch.from_numpy(data.labels("rest"))
    targets = targets_of({"logits": torch.zeros(len(labels), len(data.names)), "labels": labels})
    frequencies = ((1 + targets.sum(0)) / (2 + len(targets))).tolist()
    if arm == "class_weights":
        return ClassWeightedCrossEntropy(frequencies, power=variant["power"])
    if arm == "logit_adjustment":
        return LogitAdjustedCrossEntropy(frequencies)
    return SoftF1Loss(JUDGES[name][metric].soft_f1)


def batches_of(data: Data, start: dict) -> list[dict]:
    """The features of the slice in batches, by the warm start."""
    labels = torch.from_numpy(data.labels("held_out"))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return [{"logits": start["held_out"][rows], "labels": labels[rows]} for rows in order.split(BATCH)]


@torch.enable_grad()
def scaled(loss: SurrogateLoss, held_out: list[dict]) -> SurrogateLoss:
    """With a gradient as long as that of cross-entropy on the slice, in batches, as learned losses have it."""

    def cross_entropy(features: dict) -> torch.Tensor:
        return weighted_mean(loss.cross_entropy(features), loss.weights(features))

    norms = []
    for found in (loss.batch_loss, cross_entropy):
        total = 0.0
        for features in held_out:
            value, logits = with_logits(found, {name: part.clone() for name, part in features.items()}, loss)
            total += float(example_gradient_norms(value * len(logits[0]), logits).square().sum())
        norms.append(total**0.5)
    with torch.no_grad():
        loss.log_scale.add_(torch.tensor(norms[1] / norms[0]).log())
    return loss


if __name__ == "__main__":
    main()
