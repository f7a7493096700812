"""Losses on the classes of pixels.

| feature | shape | meaning |
|---|---|---|
| `logits` | `(n, H, W, C)` | logits of the classes of each pixel, at the size of the mask |
| `labels` | `(n, H, W)` | the class of each pixel, or -100 for a pixel that counts for nothing |

| loss | learned | in the batch |
|---|---|---|
| `PixelCosts` | the cost of a miss and of a false alarm, by class | a mean over labelled pixels |
| `PixelSoftCounts` | a ratio of hits and errors, with an exponent | of the whole batch |
| `PixelCrossEntropy` | nothing | a mean over labelled pixels |

The loss of an example, an image, is the mean over its labelled pixels. Its weight is their number. The hand-made losses
are in `hand_made`. Losses are learned from a sample of the pixels of each image, and train on all of them.
"""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from ...classes.costs import ErrorCosts, log_of_others
from ...classes.losses import DecisionLoss, labelled, mean_of_decisions
from ...classes.soft_counts import LearnedCounts
from ...surrogate import Features


class PixelLoss(DecisionLoss):
    """Base of the losses on pixels."""

    task = "semantic_segmentation"
    about = "is for the classes of the model that it was learned with"


class PixelCrossEntropy(PixelLoss):
    """Cross-entropy as a loss of its own: the mean over the labelled pixels."""

    def score(self, features: Features) -> Tensor:
        return self.cross_entropy(features)


class PixelCosts(ErrorCosts, PixelLoss):
    """A cost for each kind of error: `-a_c log p_c` for a gold class `c`, `-b_c log(1 - p_c)` for any other.

    By mean IoU, a pixel of a small class costs more than one of a large class, missed or invented. See `ClassCosts` for
    how the costs are learned.

    Args:
        classes: the number of classes.
    """

    def score(self, features: Features) -> Tensor:
        """The same value as from `statistics`, which a batch of whole images has no memory for."""
        log_probs = log_softmax(self._fitting(features["logits"]) - self.shift, -1)
        alarmed, (miss, alarm) = log_of_others(log_probs), self.costs
        gold = features["labels"].masked_fill(~labelled(features), 0).unsqueeze(-1)
        own = miss[gold] * log_probs.gather(-1, gold) - alarm[gold] * alarmed.gather(-1, gold)
        return mean_of_decisions(
            -own.squeeze(-1) - torch.mv(alarmed.flatten(0, -2), alarm).view(own.shape[:-1]), features
        )


class PixelSoftCounts(LearnedCounts, PixelLoss):
    __doc__ = LearnedCounts.__doc__.replace("Base of losses that are one", "One")

    smoothing = 1e-4  # a small class has fewer than 1 of 256 pixels
