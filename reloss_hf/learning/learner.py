"""Learns a surrogate that ranks groups of predictions as the metric does."""

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..report import HeldOutGroups, LearningReport
from ..surrogate import Features, SurrogateLoss, weighted_mean
from .functional import gradient_penalty, hard_rank, soft_rank, spearman_correlation
from .groups import Groups, draw_groups, smallest_data_set, split_examples
from .metrics import LoadedGroupMetric
from .predictions import Predictions
from .results import json_value
from .scale import scale_to_cross_entropy, with_logits

# One half of the held-out examples decides when to stop. The other half gives the numbers of the report.
_MAX_HELD_OUT_GROUPS = 512
_STEPS_BETWEEN_CHECKS = 10


class Learner:
    """Learns a surrogate of a metric. `reloss_hf.SurrogateLearner` also takes both by name.

    One candidate predicts each group of examples, and the metric scores each group once. The surrogate is then trained
    to rank the groups, those of several candidates together and those of each candidate alone. It minimises
    `-spearman(-mean loss of a group, metric of the group) + penalty · gradient_penalty`. The correlation is the mean of
    the one over all groups and the one within a candidate.

    Args:
        metric: scores groups.
        surrogate: the surrogate to start from. A copy of it is learned.
        group_size: examples in a group. The paper uses 128. Smaller groups are more, and the metric varies more.
        groups: how many groups to score and learn from.
        groups_per_step: how many groups are ranked together in one step, 16 of each of some candidates.
        steps: the largest number of steps.
        patience: stop after so many checks, 10 steps apart, without a better held-out correlation.
        learning_rate: learning rate of Adam. The paper uses 0.01, for a network.
        penalty: weight of the gradient penalty. The paper uses 10, for a network. A few monotone numbers need less.
        held_out: the share of the examples that is kept for stopping and reporting, half for each.
        rank: the soft rank, `soft_rank` or the paper's `sorting_network_rank`.
        seed: seed of the learner's own generator. The global generator is not touched.
        progress: whether to show a progress bar.

    Attributes:
        surrogate: the surrogate; frozen once it is learned.
        held_out_groups: the `HeldOutGroups` behind the last report.

    References:
        Huang et al. 2022, section 3.3 and algorithm 1.
    """

    def __init__(
        self,
        metric: LoadedGroupMetric,
        surrogate: SurrogateLoss,
        *,
        group_size: int = 8,
        groups: int = 2048,
        groups_per_step: int = 64,
        steps: int = 300,
        patience: int = 8,
        learning_rate: float = 0.03,
        penalty: float = 0.03,
        held_out: float = 0.3,
        rank: Callable[[Tensor, float], Tensor] = soft_rank,
        seed: int = 0,
        progress: bool = True,
    ):
        if group_size < 1:
            raise ValueError(f"group_size={group_size} must be at least 1")
        if not 0 < held_out < 1:
            raise ValueError(f"held_out={held_out} must lie between 0 and 1")
        self.metric = metric
        self.group_size, self.groups, self.groups_per_step = group_size, groups, groups_per_step
        self.steps, self.patience, self.learning_rate, self.penalty = steps, patience, learning_rate, penalty
        self.held_out, self.rank, self.seed, self.progress = held_out, rank, seed, progress
        self._initial = copy.deepcopy(surrogate).cpu().requires_grad_(True)
        self.surrogate = copy.deepcopy(self._initial)
        self.held_out_groups: HeldOutGroups | None = None

    @property
    def surrogate_name(self) -> str:
        """The class of the surrogate to learn."""
        return type(self._initial).__name__

    @property
    def smallest_data_set(self) -> int:
        """How many different examples learning needs: one group for each purpose."""
        return smallest_data_set(self.group_size, self.held_out)

    def learn(self, predictions: Predictions | str | Path) -> LearningReport:
        """Learn from predictions in memory, or in a folder that `Predictions.save` wrote.

        Their order does not matter. Afterwards `self.surrogate` is frozen, and its gradient is scaled to that of
        cross-entropy on the last candidate.

        Returns:
            The report. Its `objection` says whether to use the surrogate.

        Raises:
            ValueError: there are too few different examples.
            RuntimeError: the metric could not score most of the groups.
        """
        start = time.perf_counter()
        if not isinstance(predictions, Predictions):
            predictions = Predictions.load(predictions)
        predictions = predictions.in_order()
        self.surrogate = copy.deepcopy(self._initial)
        generator = torch.Generator().manual_seed(self.seed)
        learning, stopping, reporting = split_examples(predictions, self.group_size, self.held_out, generator)

        own = predictions.candidates >= 0  # the report leaves corruptions out
        stopping, reporting = stopping[own[stopping]], reporting[own[reporting]]
        wanted = [(learning, self.groups), (stopping, _MAX_HELD_OUT_GROUPS), (reporting, _MAX_HELD_OUT_GROUPS)]
        drawn = [draw_groups(predictions, rows, self.group_size, count, generator) for rows, count in wanted]
        scored = self._score(predictions, drawn)
        left_out = sum(int(groups.metric.isnan().sum()) for groups in scored)
        learned, checked, final = scored[0].scored(), scored[1].scored(), scored[2].of_scored_candidates()
        kept = final.metric.isfinite()
        varies = learned.metric.std() > 0
        steps = self._optimise(predictions, learned, checked, generator) if varies else 0
        self.surrogate.eval().requires_grad_(False)
        if varies:
            last = predictions.candidates == predictions.candidates.max()
            scale_to_cross_entropy(self.surrogate, _rows(predictions, last))

        self.held_out_groups = HeldOutGroups(
            metric=final.metric[kept],
            surrogate=self._group_losses(self.surrogate, predictions, final)[kept],
            cross_entropy=self._group_losses(self.surrogate.cross_entropy, predictions, final)[kept],
            candidates=predictions.candidates[final.rows[:, :, 0]][kept],
        )
        report = self._report(disjoint=min(int(kept.sum()), len(reporting) // self.group_size))
        report.groups_left_out = left_out
        report.examples, report.steps, report.seconds = len(predictions), steps, round(time.perf_counter() - start, 3)
        self.surrogate.info = report.as_dict() | self._settings()
        self.surrogate.held_out = self.held_out_groups
        return report

    def rehearse(self, predictions: Predictions, sample: tuple[Any, Any]) -> None:
        """Score groups of a few predictions, and compute the objective and its gradient once, on a copy. Rows are
        repeated if a group needs more.

        Args:
            predictions: one prediction or more.
            sample: a prediction and a reference that the metric can score. They replace a group that it cannot score,
                such as the empty predictions of a model that has learned nothing yet.
        """
        rows = torch.arange(2 * self.group_size).view(1, 2, -1) % len(predictions)
        lists = predictions.predictions, predictions.references
        try:
            self.metric(*lists, rows[0].numpy())
        except RuntimeError:
            mixed = ([one, *given] for one, given in zip(sample, lists, strict=True))
            self.metric(*mixed, np.arange(self.group_size)[None] % (1 + len(predictions)))
        groups = Groups(rows, torch.tensor([[0.0, 1.0]]))
        initial, self.surrogate = self.surrogate, copy.deepcopy(self._initial)
        try:
            self._objective(predictions, groups).backward()
        finally:
            self.surrogate = initial

    def _settings(self) -> dict[str, Any]:
        names = ("groups", "groups_per_step", "steps", "patience", "learning_rate", "penalty", "held_out")
        return {
            "metric_signature": self.metric.signature,
            "lower_is_better": self.metric.lower_is_better,
            "metric_options": {name: json_value(value) for name, value in self.metric.options.items()},
            "group_size": self.group_size,
            "seed": self.seed,
            "hyperparameters": {name: getattr(self, name) for name in names} | {"rank": self.rank.__name__},
        }

    def _report(self, disjoint: int) -> LearningReport:
        groups = self.held_out_groups
        return LearningReport(
            metric=self.metric.name,
            surrogate=type(self.surrogate).__name__,
            spearman=_spearman(groups.surrogate, groups.metric),
            spearman_cross_entropy=_spearman(groups.cross_entropy, groups.metric),
            spearman_within=_spearman_within(groups.surrogate, groups.metric, groups.candidates),
            spearman_cross_entropy_within=_spearman_within(groups.cross_entropy, groups.metric, groups.candidates),
            chance=min(2 / math.sqrt(max(disjoint - 1, 1)), 0.9),
            metric_spread=float(groups.metric.std(correction=0)),
            held_out_groups=len(groups.metric),
            base_loss_name=self.surrogate.base_loss_name,
        )

    def _score(self, predictions: Predictions, drawn: list[Tensor]) -> list[Groups]:
        """Score all groups at once, so that one warning counts those that the metric could not score."""
        rows = torch.cat([groups.flatten(0, 1) for groups in drawn])
        scores = torch.from_numpy(self.metric(predictions.predictions, predictions.references, rows.numpy())).float()
        parts = scores.split([groups.shape[0] * groups.shape[1] for groups in drawn])
        return [Groups(groups, part.view(groups.shape[:2])) for groups, part in zip(drawn, parts, strict=True)]

    def _optimise(self, predictions: Predictions, groups: Groups, checked: Groups, generator: torch.Generator) -> int:
        """Minimise the objective and keep the weights of the best check. Returns the step of that check."""
        optimizer = torch.optim.Adam(self.surrogate.parameters(), lr=self.learning_rate)
        best, best_step, best_weights = -math.inf, 0, copy.deepcopy(self.surrogate.state_dict())
        bar = tqdm(range(self.steps), desc="Learning the surrogate", disable=not self.progress)
        for step in bar:
            if step % _STEPS_BETWEEN_CHECKS == 0:
                losses = self._group_losses(self.surrogate, predictions, checked)
                current = float(_correlation(-losses, checked.metric, hard_rank))
                bar.set_postfix(held_out_spearman=f"{current:.4f}")
                if current > best:
                    best, best_step = current, step
                    best_weights = copy.deepcopy(self.surrogate.state_dict())
                elif step - best_step > self.patience * _STEPS_BETWEEN_CHECKS:
                    break
            optimizer.zero_grad()
            self._objective(predictions, groups.sample(self.groups_per_step, generator)).backward()
            optimizer.step()
        bar.close()
        self.surrogate.load_state_dict(best_weights)
        return best_step

    def _objective(self, predictions: Predictions, groups: Groups) -> Tensor:
        features = _rows(predictions, groups.rows.flatten())
        losses, logits = with_logits(self.surrogate, features)
        scores = -self._group_means(losses, features, groups)
        return self.penalty * gradient_penalty(losses, logits) - _correlation(scores, groups.metric, self.rank)

    @torch.no_grad()
    def _group_losses(self, loss: Callable, predictions: Predictions, groups: Groups) -> Tensor:
        features = _rows(predictions, groups.rows.flatten())
        return self._group_means(loss(features), features, groups)

    def _group_means(self, losses: Tensor, features: Features, groups: Groups) -> Tensor:
        weights = self.surrogate.weights(features)
        return weighted_mean(losses.view(groups.rows.shape), weights.view(groups.rows.shape))


def _rows(predictions: Predictions, rows: Tensor) -> Features:
    return {name: value[rows] for name, value in predictions.features.items()}


def _correlation(scores: Tensor, metric: Tensor, rank: Callable) -> Tensor:
    """The mean of Spearman's ρ over all groups and within a candidate. Both inputs are `(candidates, groups)`."""
    overall = spearman_correlation(scores.flatten(), metric.flatten(), rank=rank)
    return (overall + spearman_correlation(scores, metric, rank=rank).mean()) / 2


def _spearman(losses: Tensor, metric: Tensor) -> float:
    return float(spearman_correlation(-losses, metric, rank=hard_rank))


def _spearman_within(losses: Tensor, metric: Tensor, candidates: Tensor) -> float:
    values = [_spearman(losses[candidates == c], metric[candidates == c]) for c in candidates.unique()]
    return float(np.mean(values))
