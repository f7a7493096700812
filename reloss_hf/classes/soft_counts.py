"""Losses of soft counts: a ratio of hits and errors of a batch, as F-measures are."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..surrogate import CountedLoss, Features
from .losses import DecisionLoss, has_several, labelled, mean_of_decisions, probabilities, targets_of


class LearnedCounts(CountedLoss, DecisionLoss):
    """Base of losses that are one minus a mean of `(TP / (TP + beta FP + gamma FN)) ** exponent`. The counts are sums
    of probabilities.

    The mean is over the classes, each with a weight, and over the counts of all classes together. All numbers are
    learned: `beta` and `gamma`, the exponent, the weight of each class, and the share of the counts together. Macro F1
    has a share of 0, micro F1 a share of 1.

    It depends on the whole batch. Parts of a batch are trained on the slope at the counts of the whole batch.

    Args:
        classes: the number of classes.

    Attributes:
        smoothing: a share of the decisions that is added to hits and errors, so that a class that is not in a batch
            still has a slope.
    """

    linear = False
    smoothing: ClassVar[float] = 1 / 256

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes
        self.log_ratios = nn.Parameter(torch.zeros(2))
        self.log_exponent = nn.Parameter(torch.zeros(()))
        self.together = nn.Parameter(torch.zeros(()))
        self.log_weights = nn.Parameter(torch.zeros(classes))

    def statistics(self, features: Features) -> Tensor:
        """Soft hits, predictions and examples of each class, shape `(n, 3, classes)`."""
        return soft_counts(features)

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
        return ((hits + self.smoothing) / (hits + errors + self.smoothing)) ** self.log_exponent.exp()


def soft_counts(features: Features) -> Tensor:
    """Soft hits, predictions and examples of each class, as means over the decisions of an example, `(n, 3, C)`."""
    predicted, targets = probabilities(features) * labelled(features).unsqueeze(-1), targets_of(features)
    counts = (predicted * targets, predicted, targets)
    if not has_several(features):
        counts = [mean_of_decisions(found, features) for found in counts]
    return torch.stack(list(counts), dim=-2)
