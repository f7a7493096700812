"""What a loss asks of a target: the weight that it gives to it, against the target's probability."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..learning.predictions import Predictions
from ..surrogate import SurrogateLoss

_BINS = 24
_ROWS = 512
# A weight below minus this share of the mean weight rewards a lower probability; less may be rounding.
_NEGATIVE = 0.01
_FLAGGED_SHARE = 0.01


@dataclass
class WeightCurve:
    """The weight of a target, `-∂loss/∂log p`, against its probability `p`; the mean weight is 1, cross-entropy's 1
    everywhere. Tensors of shape `(bins,)`, each bin with as many targets.

    Attributes:
        probability: the median of the bin.
        median: of the weights in the bin.
        low: their first decile.
        high: their last decile.
        rewards_lower: the share of all targets with a negative weight, where a lower probability is rewarded.
    """

    probability: Tensor
    median: Tensor
    low: Tensor
    high: Tensor
    rewards_lower: float

    @property
    def flagged(self) -> bool:
        return self.rewards_lower > _FLAGGED_SHARE


def weight_curve(loss: SurrogateLoss, predictions: Predictions) -> WeightCurve | None:
    """The weights of the targets of some of the predictions, against their probabilities; None where the loss reads
    none."""
    found = loss.target_weights(_sample(predictions).features)
    if found is None or not len(found[0]):
        return None
    probability, weight = found
    order = probability.argsort()
    probability, weight = probability[order], weight[order] / weight.abs().mean().clamp(min=1e-30)
    bins = [(p, w) for p, w in zip(probability.chunk(_BINS), weight.chunk(_BINS), strict=True)]
    low, median, high = torch.stack([w.quantile(torch.tensor([0.1, 0.5, 0.9])) for _, w in bins]).T
    rewards_lower = float((weight < -_NEGATIVE).float().mean())
    return WeightCurve(torch.stack([p.median() for p, _ in bins]), median, low, high, rewards_lower)


def _sample(predictions: Predictions) -> Predictions:
    """Some predictions of all candidates: the early ones have targets of low probability, the late ones of high."""
    own = (predictions.candidates >= 0).nonzero().flatten()
    return predictions.select(own[:: max(1, len(own) // _ROWS)])
