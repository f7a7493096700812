"""Losses on heatmaps that people write by hand. They learn nothing."""

import torch
from torch import Tensor

from ...surrogate import Features
from .losses import KeypointLoss, mean_of_visible, places_of, squared_errors, targets_of


class SharpenedLoss(KeypointLoss):
    """Base of the losses on the softmax of a heatmap.

    Args:
        sharpness: factor of the heatmap before the softmax. A heatmap that was trained on the squared error has a peak
            of at most 1.
    """

    def __init__(self, sharpness: float = 12.0):
        super().__init__()
        self.sharpness = sharpness

    def log_chances(self, features: Features) -> Tensor:
        """The logarithm of the softmax, shape `(n, joints, h · w)`."""
        return (self.sharpness * features["heatmaps"].flatten(2)).log_softmax(2)


class HeatmapCrossEntropy(SharpenedLoss):
    """Cross-entropy of the softmax of a heatmap. The target is the Gaussian, with a sum of 1.

    Args:
        sharpness: factor of the heatmap before the softmax.
    """

    def score(self, features: Features) -> Tensor:
        return mean_of_visible(-(_chances_of_target(features) * self.log_chances(features)).sum(2), features)


class HardKeypointMining(KeypointLoss):
    """The squared error of the joints with the largest errors alone, in each image.

    Args:
        share: the share of the visible joints that count, 0 to 1. At least one counts.

    References:
        Chen et al., *Cascaded Pyramid Network for Multi-Person Pose Estimation*, CVPR 2018, with 8 of 17 joints.
    """

    def __init__(self, share: float = 0.5):
        if not 0 < share <= 1:
            raise ValueError(f"share={share} must be above 0, and at most 1")
        super().__init__()
        self.share = share

    def score(self, features: Features) -> Tensor:
        errors = squared_errors(features).masked_fill(~features["visible"], 0)
        visible = features["visible"].sum(1, keepdim=True)
        counted = (self.share * visible).round().clamp(min=1)
        hardest = errors.sort(1, descending=True).values
        places = torch.arange(errors.shape[1], device=errors.device)
        return ((places < counted) * hardest).sum(1) / counted.squeeze(1)


class SoftArgmaxLoss(SharpenedLoss):
    """The distance of the mean place under the softmax of a heatmap from the gold place, in halves of the input's
    sides, plus the Jensen-Shannon divergence of the softmax from the target.

    Args:
        sharpness: factor of the heatmap before the softmax.
        divergence: factor of the divergence.

    References:
        Nibali et al., *Numerical Coordinate Regression with Convolutional Neural Networks*, 2018 (DSNT).
    """

    def __init__(self, sharpness: float = 12.0, divergence: float = 1.0):
        super().__init__(sharpness)
        self.divergence = divergence

    def score(self, features: Features) -> Tensor:
        log_chances, target = self.log_chances(features), _chances_of_target(features)
        chances = log_chances.exp()
        maps = chances.view_as(features["heatmaps"])
        width, height = maps.shape[3], maps.shape[2]
        sums = (maps.sum(2), width), (maps.sum(3), height)
        mean = torch.stack([of_axis @ torch.arange(count).to(maps) for of_axis, count in sums], 2)
        halves = torch.tensor([width - 1, height - 1], device=maps.device) / 2
        # Not the norm alone, whose gradient is not finite at 0.
        distance = (((mean - places_of(features)) / halves).square().sum(2) + 1e-8).sqrt()
        middle = ((chances + target) / 2).clamp(min=1e-12).log()
        divergence = (chances * (log_chances - middle) + target * (target.clamp(min=1e-12).log() - middle)).sum(2) / 2
        return mean_of_visible(distance + self.divergence * divergence, features)


def _chances_of_target(features: Features) -> Tensor:
    """The target with a sum of 1, shape `(n, joints, h · w)`."""
    target = targets_of(features).flatten(2)
    return target / target.sum(2, keepdim=True).clamp(min=1e-12)
