"""What a diagnosis finds: correlations with their intervals, the weights of targets and the costs of errors."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from .weights import WeightCurve

_COVERAGE = 0.95


@dataclass
class Interval:
    """A correlation, or a difference of two, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass
class LossDiagnosis:
    """How one loss orders groups of predictions, or candidates of the same examples.

    Attributes:
        name: of the loss.
        losses: of the groups, shape `(groups,)`.
        overall: Spearman of the negative loss with the metric over all groups; of candidates of the same examples the
            mean over all sets.
        last: the same within the last candidate, the model as it was saved last.
        within: the mean over these of that within one.
        gain: how much `within` lies above that of the loss before the switch; None for that loss itself.
        weights: None where the loss does not read the probabilities of targets.
        costs: that the loss has for each kind of error, by the name of the kind, shape `(classes,)` each; empty where
            it has none.
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
    """What `diagnose` finds; the first loss is the one before the switch. Groups that the metric could not score are
    left out, and so are those of a candidate with fewer than 3 others.

    Attributes:
        metric_name: the metric.
        metric_signature: its settings, where it tells them.
        group_size: examples in a group, or in a set.
        metric: of the groups, shape `(groups,)`; higher is better. Of candidates of the same examples, and so are their
            losses, without the mean of their set.
        candidates: which model made the predictions of a group, likewise.
        losses: the first is the one before the switch.
        groups_left_out: that the metric could not score.
        set_size: candidates of the same examples, which are ranked together; 0 where groups of different examples are.
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
    """Of a number, at first place, and of bootstrap draws of it."""
    tail = (1 - _COVERAGE) / 2
    low, high = np.quantile(draws[1:], [tail, 1 - tail])
    return Interval(float(draws[0]), float(low), float(high))


def bootstrap_draws(candidates: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Rows of groups, or of sets, shape `(1 + resamples, groups)`: those there are, then draws of as many of each
    candidate."""
    generator = np.random.default_rng(seed)
    draws = np.tile(np.arange(len(candidates)), (1 + resamples, 1))
    for candidate in np.unique(candidates):
        places = np.flatnonzero(candidates == candidate)
        draws[1:, places] = generator.choice(places, (resamples, len(places)))
    return draws
