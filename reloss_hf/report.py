"""What is known of a learned surrogate: how it orders held-out predictions, and whether to trust it."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor


@dataclass
class LearningReport:
    """What was learned, measured on groups of held-out examples that took part in no decision.

    Attributes:
        metric: the name of the metric.
        surrogate: the class of the surrogate.
        spearman: rank correlation of the negative surrogate with the metric, over all held-out groups. Over a training
            from scratch most of it is the trend, which every loss follows.
        spearman_cross_entropy: the same of the loss before the switch, on the same groups: cross-entropy, unless
            `base_loss_name` says otherwise.
        spearman_within: the mean over candidates of the correlation within one candidate: the harder question, and the
            one that the rest of the training asks.
        spearman_cross_entropy_within: the same of the loss before the switch.
        chance: a correlation below this, two standard errors of uncorrelated ranks, may be chance.
        metric_spread: standard deviation of the metric over these groups, in its own units.
        held_out_groups: how many groups the numbers are measured on.
        examples: how many predictions were there to learn from, held-out ones included.
        steps: learning steps up to the weights that were kept.
        seconds: the time it took.
        base_loss_name: what the loss before the switch is called.
    """

    metric: str
    surrogate: str
    spearman: float
    spearman_cross_entropy: float
    spearman_within: float
    spearman_cross_entropy_within: float
    chance: float
    metric_spread: float
    held_out_groups: int
    examples: int = 0
    steps: int = 0
    seconds: float = 0.0
    base_loss_name: str = "cross-entropy"

    @property
    def objection(self) -> str | None:
        """Why the surrogate should not replace the loss before the switch; None where it should."""
        if self.metric_spread == 0:
            return f"the metric {self.metric!r} is the same on every group of predictions, so nothing can be learned"
        surrogate = (self.spearman + self.spearman_within) / 2
        base, name = (self.spearman_cross_entropy + self.spearman_cross_entropy_within) / 2, self.base_loss_name
        if base < -self.chance:
            return (
                f"{name} orders predictions opposite to the metric {self.metric!r} (Spearman "
                f"{base:.3f}): if lower values of it are better, pass lower_is_better=True"
            )
        if surrogate <= max(base, self.chance):
            return (
                f"the surrogate orders held-out predictions no better than {name} or chance does: Spearman with "
                f"{self.metric!r}, the mean of that over all and that within a candidate, is {surrogate:.3f}, of "
                f"{name} {base:.3f}, of chance up to {self.chance:.3f}"
            )
        return None

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


@dataclass
class HeldOutGroups:
    """What the report is measured on, to look at or to plot: tensors of shape `(groups,)`.

    Attributes:
        metric: the metric of each group; higher is better.
        surrogate: the learned loss of each group.
        cross_entropy: the loss before the switch of each group.
        candidates: which candidate made its predictions.
    """

    metric: Tensor
    surrogate: Tensor
    cross_entropy: Tensor
    candidates: Tensor
