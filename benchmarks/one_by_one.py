"""What the benchmarks share whose arms continue one warm start: their flags, the order of the runs, and the arms.

One run at a time is trained, and added to the results at once; what is there is skipped.
"""

import argparse
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from results_file import Results
from transformers import logging as transformers_logging

from reloss_hf import ReLossTrainer, SurrogateLoss
from reloss_hf.learning.functional import example_gradient_norms
from reloss_hf.learning.scale import with_logits
from reloss_hf.surrogate import weighted_mean

# Losses take over from the third update on.
SWITCH = 2
_REPORTED = ("spearman", "spearman_cross_entropy", "held_out_metric", "foreseen_metric", "seconds", "objection")


class TimedTrainer(ReLossTrainer):
    """Counts the seconds of learning, forward passes over the slice included, and keeps the reports."""

    def __init__(self, *positional, **keywords):
        super().__init__(*positional, **keywords)
        self.learning_seconds, self.reports = 0.0, []
        if self.learning is not None:
            self.learning.before_step = self._timed(self.learning.before_step)

    def _learn(self, *evidence):
        learned = super()._learn(*evidence)
        self.reports.append(
            learned[1].as_dict() | {"objection": learned[2]} if learned[1] else {"objection": learned[2]}
        )
        return learned

    def _timed(self, before_step: Callable) -> Callable:
        def timed(model):
            started = time.perf_counter()
            learned = before_step(model)
            self.learning_seconds += time.perf_counter() - started
            return learned

        return timed


class Control(TimedTrainer):
    """Trains on what it learns, come what may."""

    def __init__(self, *positional, **keywords):
        super().__init__(*positional, **keywords)
        if self.learning is not None:
            self.learning._look = lambda *positional, **keywords: None  # that the metric falls is no reason to go back

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


def shared_flags(
    description: str, arms: Collection[str], runs: str, seeds: Sequence[int] = (0, 1, 2)
) -> argparse.ArgumentParser:
    """A parser of the flags that all these benchmarks have.

    Args:
        runs: the default folder of warm starts.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default="../shared/data", help="the folder of the data sets")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(seeds))
    parser.add_argument("--arms", nargs="+", choices=arms, default=arms)
    parser.add_argument("--factors", nargs="+", type=float, default=[2 / 3, 4 / 3], help="of the warm start's rates")
    parser.add_argument("--runs", type=Path, default=runs, help="where warm starts are stored")
    parser.add_argument("--results", type=Path, default="benchmarks/results", help="the folder of the JSON file")
    parser.add_argument("--at_most", type=int, default=10**6, help="runs to be trained before it ends")
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, and end")
    return parser


def run_all(
    options: argparse.Namespace,
    results: Results,
    data: Sequence[str],
    load: Callable[[str, int], dict],
    run_arm: Callable[..., dict],
    settings: dict[str, dict[str, Sequence]] | None = None,
    skipped: Callable[[str, str, str, int], bool] = lambda *key: False,
) -> None:
    """Train each arm of each data set and seed, with all settings on the first seed and the chosen ones later.

    Args:
        load: `(data, seed) -> keywords` for `run_arm`.
        run_arm: `(arm, metric, variant, data, seed, **keywords) -> run`. `metric` is None for an arm that is trained
            for none.
        settings: what is tried for an arm beside factors of the learning rate.
        skipped: whether an arm is left out, `(data, metric, arm, seed) -> bool`.
    """
    transformers_logging.set_verbosity_error()
    for seed in options.seeds:
        for name in data:
            loaded: dict = {}
            for arm, metric, variant in _planned(options, results, name, seed, settings or {}, skipped):
                if results.has(name, seed, arm, metric, variant):
                    continue
                if options.at_most == 0:
                    return
                loaded = loaded or load(name, seed)
                run = {"data": name, "seed": seed, "arm": arm, "metric": metric, "variant": variant}
                run |= run_arm(arm, metric, variant, name, seed, **loaded)
                results.add(run)
                print(f"{name}, seed {seed}: {arm} {metric or ''} {variant}: {run['test']}", flush=True)
                options.at_most -= 1


def trained(trainer: TimedTrainer) -> dict:
    """Train, and tell how long it took and what was learned."""
    started = time.perf_counter()
    trainer.train()
    run = {"seconds": round(time.perf_counter() - started, 1)}
    if trainer.learning is not None:
        run["learning_seconds"] = round(trainer.learning_seconds, 1)
        run["learner"] = trainer.learner._settings()["hyperparameters"] | {"group_size": trainer.learner.group_size}
        run["gave_up"] = trainer.learning._gave_up
        run["reports"] = [{key: report.get(key) for key in _REPORTED} for report in trainer.reports]
    return run


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


def _planned(options, results: Results, name: str, seed: int, settings: dict, skipped: Callable) -> Iterator[tuple]:
    for metric in results.metrics[name]:
        for arm in options.arms:
            if skipped(name, metric, arm, seed):
                continue
            trained_on = metric if arm in results.by_metric else None
            if seed > 0:
                yield arm, trained_on, results.chosen(name, arm, trained_on, metric)
                continue
            tried = {"factor": [round(factor, 3) for factor in options.factors]} | settings.get(arm, {})
            for values in product(*tried.values()):
                yield arm, trained_on, dict(zip(tried, values, strict=True))


class _Shuffled:
    def __init__(self, metric):
        self.metric, self.generator = metric, np.random.default_rng(0)

    def __getattr__(self, name):
        return getattr(self.metric, name)

    def __call__(self, *positional):
        return self.generator.permutation(self.metric(*positional))
