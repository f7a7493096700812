"""Losses on pixels that people write by hand, under their usual names. They learn nothing.

A loss that needs the frequencies of the classes and is not given them counts the pixels of the training data.
"""

import torch
from torch import Tensor

from ...classes.hand_made import FocalCrossEntropy, SoftF1, WeightedCrossEntropy
from ...classes.losses import labelled, probabilities
from ...classes.soft_counts import soft_counts
from ...surrogate import CountedLoss, Features
from .losses import PixelLoss


class PixelWeightedCrossEntropy(WeightedCrossEntropy, PixelLoss):
    __doc__ = WeightedCrossEntropy.__doc__


class PixelFocalLoss(FocalCrossEntropy, PixelLoss):
    __doc__ = FocalCrossEntropy.__doc__


class PixelJaccardLoss(CountedLoss, PixelLoss):
    """One minus the soft IoU of a batch: the mean over the classes that occur in it. Its counts are sums of
    probabilities.

    It depends on the whole batch. If the batch is split into micro-batches or over processes, a first pass without
    gradient counts all of it, so the gradient is that of the whole batch.

    References:
        Rahman and Wang, *Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation*, ISVC 2016.
    """

    linear = False

    def statistics(self, features: Features) -> Tensor:
        """Soft hits, predictions and examples of each class, shape `(n, 3, C)`."""
        return soft_counts(features)

    def of_statistics(self, mean: Tensor) -> Tensor:
        hits, predicted, examples = mean.unbind(-2)
        occurs = (examples > 0).to(mean.dtype)
        overlap = hits / (predicted + examples - hits).clamp(min=1e-12)
        return 1 - (occurs * overlap).sum(-1) / occurs.sum(-1).clamp(min=1)


class PixelDiceLoss(SoftF1, PixelLoss):
    __doc__ = SoftF1.__doc__.replace("the soft F1 of a batch", "the soft Dice coefficient (F1) of a batch")


class PixelLovaszLoss(PixelLoss):
    """The Lovász-softmax loss of a batch: the IoU of each class that occurs in it, extended to probabilities.

    It sorts the pixels of the whole batch, so no sum over its parts gives its gradient. Each micro-batch of each
    process has a loss of its own, and these are averaged by their labelled pixels. So 8 accumulated batches of 1 are
    trained otherwise than one batch of 8, unlike with all other losses here.

    References:
        Berman, Rannen Triki and Blaschko, *The Lovász-Softmax Loss*, CVPR 2018.
    """

    def score(self, features: Features) -> Tensor:
        """The loss of each image as a batch of its own."""
        found, known = probabilities(features), labelled(features)
        images = zip(found, features["labels"], known, strict=True)
        return torch.stack([_lovasz_softmax(image[kept], labels[kept]) for image, labels, kept in images])

    def batch_loss(self, features: Features, whole: Tensor | None = None) -> Tensor:
        with torch.autocast(self.log_scale.device.type, enabled=False):
            known = labelled(features)
            loss = _lovasz_softmax(probabilities(features)[known], features["labels"][known])
            return self.log_scale.exp() * loss


def _lovasz_softmax(found: Tensor, labels: Tensor) -> Tensor:
    """The mean over the classes that occur.

    Args:
        found: probabilities, shape `(pixels, C)`.
        labels: shape `(pixels,)`.
    """
    losses = []
    for number in labels.unique().tolist():
        gold = (labels == number).float()
        errors, order = (gold - found[:, number]).abs().sort(descending=True)
        gold = gold[order]
        missed, alarmed = gold.cumsum(0), (1 - gold).cumsum(0)
        jaccard = 1 - (gold.sum() - missed) / (gold.sum() + alarmed)
        losses.append(errors @ torch.diff(jaccard, prepend=jaccard.new_zeros(1)))
    return torch.stack(losses).mean() if losses else found.sum()
