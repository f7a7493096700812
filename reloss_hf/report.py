"""The report on a learned surrogate: how it orders held-out predictions, and whether to use it."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor


@dataclass
class LearningReport:
    """How well the surrogate follows the metric, measured on groups of held-out examples that decided nothing.

    Attributes:
        metric: the name of the metric.
        surrogate: the class of the surrogate.
        spearman: rank correlation of the negative surrogate with the metric, over all held-out groups. In a training
            from scratch most of it is the trend, which every loss follows.
        spearman_cross_entropy: the same correlation for the loss before the switch, on the same groups. That loss is
            cross-entropy unless `base_loss_name` says otherwise.
        spearman_within: the mean over candidates of the correlation within one candidate. This is the harder test, and
            it matters for the rest of the training.
        spearman_cross_entropy_within: the same mean for the loss before the switch.
        chance: two standard errors of uncorrelated ranks. A correlation below it may be chance.
        metric_spread: standard deviation of the metric over these groups, in its own units.
        held_out_groups: how many groups the numbers are measured on.
        examples: how many predictions there were to learn from, held-out ones included.
        steps: learning steps up to the weights that were kept.
        seconds: the learning time.
        groups_left_out: how many groups the metric could not score, of all groups to learn from, to stop by and to
            report on.
        same_examples: whether candidates of the same examples are ranked together: perturbed copies of the model's
            predictions. All correlations are then within such a set.
        noise_of_gain: two standard errors of the difference of `spearman` and `spearman_cross_entropy`; 0 if it was not
            measured.
        held_out_metric: the metric of all predictions, learned from or not, as they are; None if it was not measured,
            as below.
        foreseen_metric: the metric of these predictions if each fifth is moved to where the learned loss of the others
            is least.
        foreseen_gain: how much better it is then.
        noise_of_foreseen: two standard errors of this gain.
        base_loss_name: the name of the loss before the switch.
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
    held_out_metric: float | None = None
    foreseen_metric: float | None = None
    foreseen_gain: float | None = None
    noise_of_foreseen: float | None = None
    base_loss_name: str = "cross-entropy"

    @property
    def objection(self) -> str | None:
        """Why the surrogate should not replace the loss before the switch; None if it should."""
        if self.metric_spread == 0:
            return f"the metric {self.metric!r} is the same on every group of predictions, so no loss can be learned"
        surrogate = (self.spearman + self.spearman_within) / 2
        base, name = (self.spearman_cross_entropy + self.spearman_cross_entropy_within) / 2, self.base_loss_name
        if base < -self.chance and not self.same_examples:
            return (
                f"{name} orders predictions opposite to the metric {self.metric!r} (Spearman "
                f"{base:.3f}): pass lower_is_better=True if lower values of the metric are better, and False if it "
                "only has the name of an error rate"
            )
        gain, noise = self.foreseen_gain or 0.0, self.noise_of_foreseen or 0.0
        if gain < 0:
            return (
                f"the learned loss is least where {self.metric!r} of the held-out predictions is "
                f"{self.foreseen_metric:.4f}, and it is {self.held_out_metric:.4f} now"
            )
        if gain > noise:
            return None
        if surrogate <= max(base + self.noise_of_gain, self.chance):
            where = "" if self.same_examples else " (the mean of those over all groups and within a candidate)"
            return (
                f"the surrogate orders held-out predictions no better than {name} or chance does: Spearman with "
                f"{self.metric!r}{where} is {surrogate:.3f} for the surrogate, {base:.3f} for {name}, and up to "
                f"{self.chance:.3f} by chance"
            )
        return None

    def as_logs(self, base_loss_key: str) -> dict[str, float]:
        """The numbers that a trainer logs.

        Args:
            base_loss_key: the name that logs give to the loss before the switch, such as `"cross_entropy"`.
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
    """The groups that the report is measured on, to look at or to plot: tensors of shape `(groups,)`.

    Attributes:
        metric: the metric of each group; higher is better.
        surrogate: the learned loss of each group.
        cross_entropy: the loss before the switch of each group.
        candidates: the candidate that made the predictions of each group.
    """

    metric: Tensor
    surrogate: Tensor
    cross_entropy: Tensor
    candidates: Tensor
