"""How long a surrogate takes to be learned, against the paper's, learned as its official code does."""

import time

import torch

from reloss_hf import (
    Predictions,
    SurrogateLearner,
    gradient_penalty,
    soft_rank,
    sorting_network_rank,
    spearman_correlation,
)
from reloss_hf.learning.learner import _correlation, _rows
from reloss_hf.learning.scale import with_logits
from reloss_hf.surrogate import weighted_mean


def time_learning(folder: str, most_seconds: float) -> dict:
    """The default against the paper's network learned as the official code does, both to one held-out correlation."""
    predictions = Predictions.load(folder)
    ours = TimedLearner("sacrebleu", "NgramSurrogate", progress=False)
    ours.learn(predictions)
    network = TimedLearner("sacrebleu", "TransformerTokenSurrogate", progress=False)
    network.learn(predictions)
    measured = {
        "learning_seconds": round(ours.optimising, 2),
        "learning_held_out": round(ours.best, 4),
        "learning_network_seconds": round(network.optimising, 2),
        "learning_network_held_out": round(network.best, 4),
    }
    for name, surrogate in (
        ("learning", "TransformerTokenSurrogate"),
        ("learning_same_surrogate", "NgramSurrogate"),
    ):
        reference = OneByOneLearner("sacrebleu", surrogate, progress=False, target=ours.best, most_seconds=most_seconds)
        reference.learn(predictions)
        measured |= {
            f"{name}_speedup": round(reference.optimising / ours.optimising, 1),
            f"{name}_reference_seconds": round(reference.optimising, 1),
            f"{name}_reference_held_out": round(reference.best, 4),
            f"{name}_reference_reached_it": reference.best >= ours.best,
        }
    return measured


class OneByOneLearner(SurrogateLearner):
    """Learns as the official code does: one group after the other, with a double backward each, a sorting network over
    256 of them, and the paper's rates. It stops where it orders held-out groups as well as `target`, or after
    `most_seconds`."""

    def __init__(self, *arguments, target: float, most_seconds: float, **keywords):
        super().__init__(*arguments, rank=sorting_network_rank, **keywords)
        self.target, self.most_seconds = target, most_seconds

    def _optimise(self, predictions, groups, checked, generator):
        optimizer = torch.optim.Adam(self.surrogate.parameters(), lr=0.01, weight_decay=1e-3)
        started, step, self.best = time.perf_counter(), 0, -1.0
        rows, metric = groups.rows.flatten(0, 1), groups.metric.flatten()
        while self.best < self.target and time.perf_counter() - started < self.most_seconds:
            chosen = torch.randperm(len(rows), generator=generator)[:256]
            means, penalties = [], []
            for group in rows[chosen]:
                features = _rows(predictions, group)
                losses, logits = with_logits(self.surrogate, features)
                penalties.append(gradient_penalty(losses, logits))
                means.append(weighted_mean(losses, self.surrogate.weights(features)))
            order = spearman_correlation(-torch.stack(means), metric[chosen], 0.2, sorting_network_rank)
            optimizer.zero_grad()
            (10 * torch.stack(penalties).mean() - order).backward()
            optimizer.step()
            step += 1
            self.best = max(self.best, held_out_correlation(self, predictions, checked))
        self.optimising = time.perf_counter() - started
        return step


class TimedLearner(SurrogateLearner):
    """The library's learner, with the seconds of its optimisation."""

    def _optimise(self, predictions, groups, checked, generator):
        started = time.perf_counter()
        step = super()._optimise(predictions, groups, checked, generator)
        self.optimising, self.best = time.perf_counter() - started, held_out_correlation(self, predictions, checked)
        return step


def held_out_correlation(learner, predictions, checked) -> float:
    losses = learner._group_losses(learner.surrogate, predictions, checked)
    return float(_correlation(-losses, checked.metric, soft_rank))
