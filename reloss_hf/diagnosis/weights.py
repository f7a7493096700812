"""Measures the weight that a loss gives to a target, against the target's probability."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..learning.predictions import Predictions
from ..surrogate import SurrogateLoss

_BINS = 24
_ROWS = 512
# A weight below minus this share of the mean weight rewards a lower probability. A smaller one may be rounding.
_NEGATIVE = 0.01
_FLAGGED_SHARE = 0.01


@dataclass
class WeightCurve:
    """The weight of a target, `-∂loss/∂log p`, against its probability `p`. The mean weight is 1, and the weight of
    cross-entropy is 1 everywhere. Tensors have the shape `(bins,)`; all bins have equally many targets.

    Attributes:
        probability: the median of the bin.
        median: the median of the weights in the bin.
        low: the first decile of the weights.
        high: the last decile of the weights.
        rewards_lower: the share of all targets with a negative weight. The loss rewards a lower probability of these.
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
    """The weights of targets, against their probabilities, from some of the predictions. None if the loss reads no
    probabilities of targets."""
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
    """Some predictions of all candidates. Early candidates give targets a low probability, late ones a high one."""
    own = (predictions.candidates >= 0).nonzero().flatten()
    return predictions.select(own[:: max(1, len(own) // _ROWS)])
