"""Losses on classes that people write by hand, under their usual names. They learn nothing.

If a loss needs the class frequencies and is not given them, it counts the classes in the training data.
"""

from collections.abc import Sequence

from torch import Tensor

from ...classes.hand_made import FocalCrossEntropy, FrequencyLoss, SoftF1, WeightedCrossEntropy
from ...classes.losses import cross_entropies, has_several, mean_of_decisions
from ...surrogate import Features
from .losses import ClassLoss


class ClassWeightedCrossEntropy(WeightedCrossEntropy, ClassLoss):
    __doc__ = WeightedCrossEntropy.__doc__


class LogitAdjustedCrossEntropy(FrequencyLoss, ClassLoss):
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
        shift = shares.logit() if has_several(features) else shares.log()
        return self.cross_entropy(features | {"logits": features["logits"] + self.temperature * shift})


class FocalLoss(FocalCrossEntropy, ClassLoss):
    __doc__ = FocalCrossEntropy.__doc__


class LabelSmoothedCrossEntropy(ClassLoss):
    """Cross-entropy with targets that are mixed with a uniform distribution.

    Args:
        smoothing: the share of the uniform distribution, 0 to 1.
    """

    def __init__(self, smoothing: float = 0.1):
        super().__init__()
        self.smoothing = smoothing

    def score(self, features: Features) -> Tensor:
        if has_several(features):
            smooth = (1 - self.smoothing) * features["labels"].float() + self.smoothing / 2
            return self.cross_entropy(features | {"labels": smooth})
        return mean_of_decisions(cross_entropies(features, label_smoothing=self.smoothing), features)


class SoftF1Loss(SoftF1, ClassLoss):
    __doc__ = SoftF1.__doc__
