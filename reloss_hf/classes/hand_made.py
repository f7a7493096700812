"""Bases of the losses on decisions that people write by hand. They learn nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..surrogate import CountedLoss, Features
from .losses import DecisionLoss, cross_entropies, has_several, mean_of_decisions
from .soft_counts import soft_counts


class FrequencyLoss(DecisionLoss):
    """Base of the losses that depend on the class frequencies.

    Args:
        frequencies: the share of the decisions that have each class. Pass None to count them.
    """

    def __init__(self, frequencies: Sequence[float] | None = None):
        super().__init__()
        self.frequencies = None if frequencies is None else [float(share) for share in frequencies]

    @property
    def needs_frequencies(self) -> bool:
        """Whether the frequencies have to be counted."""
        return self.frequencies is None

    def count(self, counts: Tensor, decisions: int) -> None:
        """Set the frequencies from the training data, if they are not given.

        Args:
            counts: how many decisions have each class, shape `(C,)`.
            decisions: how many decisions there are.
        """
        if self.frequencies is None:
            self.frequencies = ((1 + counts) / (2 + decisions)).tolist()

    def shares(self, logits: Tensor) -> Tensor:
        """The frequencies, shape `(C,)`.

        Raises:
            ValueError: the frequencies are neither given nor counted, or the number of classes differs.
        """
        if self.frequencies is None or len(self.frequencies) != logits.shape[-1]:
            raise ValueError(
                f"frequencies={self.frequencies} of {type(self).__name__} do not fit the {logits.shape[-1]} classes: "
                "pass the share of the examples for each class, or train with a ReLoss trainer, which counts them"
            )
        return torch.tensor(self.frequencies, device=logits.device)


class WeightedCrossEntropy(FrequencyLoss):
    """Cross-entropy in which each class weighs `frequency ** -power`, or each positive label `odds ** -power`.

    Args:
        frequencies: the share of the decisions that have each class. Pass None to count them.
        power: 1 for inverse frequencies, 0.5 for their square roots.
        weights: weights of the classes. They replace the two arguments above.
    """

    def __init__(
        self,
        frequencies: Sequence[float] | None = None,
        power: float = 1.0,
        weights: Sequence[float] | None = None,
    ):
        super().__init__(frequencies)
        self.power = power
        self.class_weights = None if weights is None else [float(weight) for weight in weights]

    @property
    def needs_frequencies(self) -> bool:
        return self.class_weights is None and super().needs_frequencies

    @property
    def config(self) -> dict:
        return {"frequencies": self.frequencies, "power": self.power, "weights": self.class_weights}

    def score(self, features: Features) -> Tensor:
        logits, several = features["logits"], has_several(features)
        if self.class_weights is not None:
            weights = torch.tensor(self.class_weights, dtype=torch.float, device=logits.device)
        else:
            shares = self.shares(logits)
            weights = (((1 - shares) / shares) if several else 1 / (len(shares) * shares)) ** self.power
        losses = cross_entropies(features, **{"pos_weight" if several else "weight": weights})
        return mean_of_decisions(losses, features)


class FocalCrossEntropy(DecisionLoss):
    """Cross-entropy of each label times `(1 - p) ** gamma`, where `p` is the probability of the right answer.

    Args:
        gamma: 0 for cross-entropy.

    References:
        Lin et al., *Focal Loss for Dense Object Detection*, ICCV 2017.
    """

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def score(self, features: Features) -> Tensor:
        losses = cross_entropies(features)
        return mean_of_decisions((1 - (-losses).exp()) ** self.gamma * losses, features)


class SoftF1(CountedLoss, DecisionLoss):
    """One minus the soft F1 of a batch. Its counts are sums of probabilities.

    It depends on the whole batch. If the batch is split into micro-batches or over processes, a first pass without
    gradient counts all of it. Each part is then trained on the slope at these counts, so the gradient is that of the
    whole batch.

    Args:
        average: `"macro"`, the mean over classes, or `"micro"`, the F1 of all counts together.
    """

    linear = False

    def __init__(self, average: str = "macro"):
        if average not in ("macro", "micro"):
            raise ValueError(f"average={average!r} must be 'macro' or 'micro'")
        super().__init__()
        self.average = average

    def statistics(self, features: Features) -> Tensor:
        """Soft hits, predictions and examples of each class, shape `(n, 3, C)`."""
        return soft_counts(features)

    def of_statistics(self, mean: Tensor) -> Tensor:
        if self.average == "micro":
            mean = mean.sum(-1, keepdim=True)
        hits, predicted, examples = mean.unbind(-2)
        return 1 - (2 * hits / (predicted + examples).clamp(min=1e-12)).mean(-1)
