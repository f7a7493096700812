"""Losses on classes that people write by hand, under their usual names. They learn nothing.

If a loss needs the class frequencies and is not given them, it counts the classes in the training data.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ...surrogate import CountedLoss, Features
from .losses import IGNORED, ClassLoss
from .soft_counts import soft_counts


class FrequencyLoss(ClassLoss):
    """Base of the losses that depend on the class frequencies.

    Args:
        frequencies: the share of the examples that have each class. Pass None to count them.
    """

    def __init__(self, frequencies: Sequence[float] | None = None):
        super().__init__()
        self.frequencies = None if frequencies is None else [float(share) for share in frequencies]

    def count(self, targets: Tensor) -> None:
        """Set the frequencies from the training data.

        Args:
            targets: 0/1, shape `(examples, C)`.
        """
        if self.frequencies is None:
            self.frequencies = ((1 + targets.sum(0)) / (2 + len(targets))).tolist()

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


class ClassWeightedCrossEntropy(FrequencyLoss):
    """Cross-entropy in which each class weighs `frequency ** -power`, or each positive label `odds ** -power`.

    Args:
        frequencies: the share of the examples that have each class. Pass None to count them.
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
        self.weights_ = None if weights is None else [float(weight) for weight in weights]

    @property
    def config(self) -> dict:
        return {"frequencies": self.frequencies, "power": self.power, "weights": self.weights_}

    def score(self, features: Features) -> Tensor:
        logits, labels = features["logits"], features["labels"]
        if self.weights_ is not None:
            weights = torch.tensor(self.weights_, dtype=torch.float, device=logits.device)
        else:
            shares = self.shares(logits)
            weights = (((1 - shares) / shares) if labels.ndim == 2 else 1 / (len(shares) * shares)) ** self.power
        if labels.ndim == 2:
            losses = binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=weights, reduction="none")
            return losses.mean(1)
        return cross_entropy(logits, labels, weights, ignore_index=IGNORED, reduction="none")


class LogitAdjustedCrossEntropy(FrequencyLoss):
    """Cross-entropy of adjusted logits: `temperature` times the log-frequency of each class is added. For several
    labels it is the log-odds.

    Args:
        frequencies: the share of the examples that have each class. Pass None to count them.
        temperature: 1 minimises the balanced error.

    References:
        Menon et al., *Long-tail learning via logit adjustment*, ICLR 2021.
    """

    def __init__(self, frequencies: Sequence[float] | None = None, temperature: float = 1.0):
        super().__init__(frequencies)
        self.temperature = temperature

    def score(self, features: Features) -> Tensor:
        shares = self.shares(features["logits"])
        shift = shares.logit() if features["labels"].ndim == 2 else shares.log()
        return self.cross_entropy(features | {"logits": features["logits"] + self.temperature * shift})


class FocalLoss(ClassLoss):
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
        logits, labels = features["logits"], features["labels"]
        if labels.ndim == 2:
            losses = binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
            return ((1 - (-losses).exp()) ** self.gamma * losses).mean(1)
        losses = self.cross_entropy(features)
        return (1 - (-losses).exp()) ** self.gamma * losses


class LabelSmoothedCrossEntropy(ClassLoss):
    """Cross-entropy with targets that are mixed with a uniform distribution.

    Args:
        smoothing: the share of the uniform distribution, 0 to 1.
    """

    def __init__(self, smoothing: float = 0.1):
        super().__init__()
        self.smoothing = smoothing

    def score(self, features: Features) -> Tensor:
        logits, labels = features["logits"], features["labels"]
        if labels.ndim == 2:
            smooth = (1 - self.smoothing) * labels.float() + self.smoothing / 2
            return self.cross_entropy({"logits": logits, "labels": smooth})
        return cross_entropy(logits, labels, ignore_index=IGNORED, label_smoothing=self.smoothing, reduction="none")


class SoftF1Loss(CountedLoss, ClassLoss):
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
