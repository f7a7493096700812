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
        groups_left_out: how many groups, of those to learn from, to stop by and to report on, the metric could not
            score.
        same_examples: whether the groups that are ranked together are candidates of the same examples: the model's
            predictions of them, perturbed. All correlations are then within such a set.
        noise_of_gain: two standard errors of how much `spearman` lies above `spearman_cross_entropy`; 0 where that was
            not measured.
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
    groups_left_out: int = 0
    same_examples: bool = False
    noise_of_gain: float = 0.0
    base_loss_name: str = "cross-entropy"

    @property
    def objection(self) -> str | None:
        """Why the surrogate should not replace the loss before the switch; None where it should."""
        if self.metric_spread == 0:
            return f"the metric {self.metric!r} is the same on every group of predictions, so nothing can be learned"
        surrogate = (self.spearman + self.spearman_within) / 2
        base, name = (self.spearman_cross_entropy + self.spearman_cross_entropy_within) / 2, self.base_loss_name
        if base < -self.chance and not self.same_examples:
            return (
                f"{name} orders predictions opposite to the metric {self.metric!r} (Spearman "
                f"{base:.3f}): pass lower_is_better=True if lower values of it are better, and False if it is "
                "only called like an error rate"
            )
        if surrogate <= max(base + self.noise_of_gain, self.chance):
            where = "" if self.same_examples else ", the mean of that over all and that within a candidate,"
            return (
                f"the surrogate orders held-out predictions no better than {name} or chance does: Spearman with "
                f"{self.metric!r}{where} is {surrogate:.3f}, of {name} {base:.3f}, of chance up to "
                f"{self.chance:.3f}"
            )
        return None

    def as_logs(self, base_loss_key: str) -> dict[str, float]:
        """What a trainer logs of it.

        Args:
            base_loss_key: the name of the loss before the switch in logs, such as `"cross_entropy"`.
        """
        return {
            "surrogate_spearman": self.spearman,
            "surrogate_spearman_within": self.spearman_within,
            f"{base_loss_key}_spearman": self.spearman_cross_entropy,
            f"{base_loss_key}_spearman_within": self.spearman_cross_entropy_within,
            "surrogate_learning_seconds": self.seconds,
        }

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
