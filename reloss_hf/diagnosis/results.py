"""The results of a diagnosis: correlations with their intervals, the weights of targets and the costs of errors."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from .weights import WeightCurve

_COVERAGE = 0.95


@dataclass
class Interval:
    """A correlation, or a difference of two correlations, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass
class LossDiagnosis:
    """How one loss orders groups of predictions, or candidates of the same examples.

    Attributes:
        name: the name of the loss.
        losses: the losses of the groups, shape `(groups,)`.
        overall: Spearman of the negative loss with the metric over all groups. For candidates of the same examples it
            is the mean over all sets.
        last: Spearman within the last candidate, the model that was saved last.
        within: the mean over candidates of Spearman within one candidate.
        gain: `within` minus that of the loss before the switch; None for that loss itself.
        weights: the weights of targets; None if the loss does not read the probabilities of targets.
        costs: the costs of each kind of error, by the name of the kind, shape `(classes,)` each. It is empty if the
            loss has no costs.
    """

    name: str
    losses: Tensor
    overall: Interval
    last: Interval
    within: Interval
    gain: Interval | None
    weights: WeightCurve | None
    costs: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Diagnosis:
    """The result of `diagnose`. Groups that the metric could not score are left out, and so are the other groups of a
    candidate if fewer than 3 are left.

    Attributes:
        metric_name: the name of the metric.
        metric_signature: its settings, if it tells them.
        group_size: examples in a group, or in a set.
        metric: the metric of the groups, shape `(groups,)`; higher is better. For candidates of the same examples, the
            mean of their set is subtracted, as from their losses.
        candidates: the model that made the predictions of each group, shape `(groups,)`.
        losses: the diagnosis of each loss. The first loss is the one before the switch.
        groups_left_out: how many groups the metric could not score.
        set_size: how many candidates of the same examples are ranked together; 0 for groups of different examples.
    """

    metric_name: str
    metric_signature: str | None
    group_size: int
    metric: Tensor
    candidates: Tensor
    losses: list[LossDiagnosis] = field(default_factory=list)
    groups_left_out: int = 0
    set_size: int = 0

    @property
    def same_examples(self) -> bool:
        return self.set_size > 0


def interval_of(draws: np.ndarray) -> Interval:
    """The interval of a number, from an array of the number and then its bootstrap draws."""
    tail = (1 - _COVERAGE) / 2
    low, high = np.quantile(draws[1:], [tail, 1 - tail])
    return Interval(float(draws[0]), float(low), float(high))


def bootstrap_draws(candidates: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Rows of groups, or of sets, shape `(1 + resamples, groups)`. The first row has the original ones, the others have
    draws of as many for each candidate."""
    generator = np.random.default_rng(seed)
    draws = np.tile(np.arange(len(candidates)), (1 + resamples, 1))
    for candidate in np.unique(candidates):
        places = np.flatnonzero(candidates == candidate)
        draws[1:, places] = generator.choice(places, (resamples, len(places)))
    return draws
