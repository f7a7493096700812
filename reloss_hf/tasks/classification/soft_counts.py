"""The loss of soft counts: a ratio of hits and errors of a batch, as F-measures are, with learned numbers."""

import torch
from torch import Tensor, nn

from ...surrogate import CountedLoss, Features
from .losses import ClassLoss, labelled, probabilities, targets_of

# Added to hits and errors, as a share of the examples, so that a class that is not in a batch still has a slope.
_SMOOTHING = 1 / 256


class SoftCounts(CountedLoss, ClassLoss):
    """One minus a mean of `(TP / (TP + beta FP + gamma FN)) ** exponent`, where the counts are sums of probabilities.

    The mean is over the classes, each with a weight, and over the counts of all classes together. All numbers are
    learned: `beta` and `gamma`, the exponent, the weight of each class, and the share of the counts together. Macro F1
    has a share of 0, micro F1 a share of 1.

    It depends on the whole batch. Parts of a batch are trained on the slope at the counts of the whole batch.

    Args:
        classes: the number of classes.
    """

    linear = False

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes
        self.log_ratios = nn.Parameter(torch.zeros(2))
        self.log_exponent = nn.Parameter(torch.zeros(()))
        self.together = nn.Parameter(torch.zeros(()))
        self.log_weights = nn.Parameter(torch.zeros(classes))

    def statistics(self, features: Features) -> Tensor:
        """Soft hits, predictions and examples of each class, shape `(n, 3, classes)`."""
        return soft_counts(features, self.classes)

    def of_statistics(self, mean: Tensor) -> Tensor:
        share = self.together.sigmoid()
        of_classes = (self.log_weights.softmax(0) * self._quality(mean)).sum(-1)
        return 1 - (1 - share) * of_classes - share * self._quality(mean.sum(-1, keepdim=True)).squeeze(-1)

    def regulariser(self) -> Tensor:
        """A penalty that keeps the weights of the classes near each other."""
        return 0.1 * self.log_weights.square().mean()

    def _quality(self, mean: Tensor) -> Tensor:
        hits, predicted, examples = mean.unbind(-2)
        beta, gamma = self.log_ratios.exp()
        errors = beta * (predicted - hits) + gamma * (examples - hits)
        return ((hits + _SMOOTHING) / (hits + errors + _SMOOTHING)) ** self.log_exponent.exp()


def soft_counts(features: Features, classes: int | None = None) -> Tensor:
    """Soft hits, predictions and examples of each class, shape `(n, 3, C)`.

    Raises:
        ValueError: the logits do not have as many classes.
    """
    if classes not in (None, features["logits"].shape[1]):
        raise ValueError(
            f"this loss is for {classes} classes, but the logits have {features['logits'].shape[1]}: learn it again"
        )
    known = labelled(features["labels"]).unsqueeze(1)
    predicted, targets = probabilities(features) * known, targets_of(features)
    return torch.stack([predicted * targets, predicted, targets], dim=1)
