"""Losses on tags that people write by hand. They learn nothing.

A loss that needs the frequencies of the tags, or the number of the tag `O`, and is not given them, gets them from the
trainer.
"""

import torch
from torch import Tensor

from ...classes.hand_made import FocalCrossEntropy, SoftF1, WeightedCrossEntropy
from ...classes.losses import cross_entropies, mean_of_decisions, probabilities, targets_of
from ...surrogate import Features
from .losses import TagLoss


class TagWeightedCrossEntropy(WeightedCrossEntropy, TagLoss):
    __doc__ = WeightedCrossEntropy.__doc__


class TagFocalLoss(FocalCrossEntropy, TagLoss):
    __doc__ = FocalCrossEntropy.__doc__


class TagDiceLoss(TagLoss):
    """One minus the Dice coefficient of each token and tag, `(2 q y + 1) / (q + y + 1)`. Here `y` is 1 for the gold tag
    and 0 for others, and `q = (1 - p) ** alpha * p`.

    Args:
        alpha: 0 for the probability itself. Above 0, tokens that are easy weigh less, and a gold tag is not pushed to
            `p = 1`.

    References:
        Li et al., *Dice Loss for Data-imbalanced NLP Tasks*, ACL 2020.
    """

    def __init__(self, alpha: float = 0.0):
        super().__init__()
        self.alpha = alpha

    def score(self, features: Features) -> Tensor:
        predicted, targets = probabilities(features).clamp(max=1 - 1e-6), targets_of(features)
        predicted = (1 - predicted) ** self.alpha * predicted
        losses = 1 - (2 * predicted * targets + 1) / (predicted + targets + 1)
        return mean_of_decisions(losses.sum(-1), features)


class OutsideLoss(TagLoss):
    """Base of the losses that treat the tag `O` apart.

    Args:
        outside: the number of the tag `O`. Pass None for that of the model.
    """

    def __init__(self, outside: int | None = None):
        super().__init__()
        self.outside = outside

    def require_outside(self) -> int:
        """The number of the tag `O`.

        Raises:
            ValueError: it is unknown.
        """
        if self.outside is None:
            raise ValueError(
                f"outside=None of {type(self).__name__}: pass the number of the tag 'O', or train with a ReLoss "
                "trainer, which takes it from model.config.id2label"
            )
        return self.outside


class OutsideWeightedCrossEntropy(OutsideLoss):
    """Cross-entropy in which tokens outside of entities weigh less, so that more entities are found.

    Args:
        weight: the weight of a token whose gold tag is `O`. Others weigh 1.
        outside: the number of the tag `O`. Pass None for that of the model.
    """

    def __init__(self, weight: float = 0.3, outside: int | None = None):
        super().__init__(outside)
        self.weight = weight

    def score(self, features: Features) -> Tensor:
        weights = torch.ones(features["logits"].shape[-1], device=features["logits"].device)
        weights[self.require_outside()] = self.weight
        return mean_of_decisions(cross_entropies(features, weight=weights), features)


class TagSoftF1Loss(SoftF1, OutsideLoss):
    """One minus the soft F1 of the tags of a batch, without `O`: the Dice loss of the batch. Its counts are sums of
    probabilities over tokens, so it knows no boundaries of entities.

    It depends on the whole batch. If the batch is split into micro-batches or over processes, a first pass without
    gradient counts all of it, so the gradient is that of the whole batch.

    Args:
        average: `"micro"`, the F1 of all counts together, or `"macro"`, the mean over tags.
        outside: the number of the tag `O`. Pass None for that of the model.
    """

    def __init__(self, average: str = "micro", outside: int | None = None):
        super().__init__(average)
        self.outside = outside

    def of_statistics(self, mean: Tensor) -> Tensor:
        kept = [tag for tag in range(mean.shape[-1]) if tag != self.require_outside()]
        return super().of_statistics(mean[..., kept])
