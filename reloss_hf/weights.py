"""What a loss asks of a target: the weight that it gives to it, against the target's probability."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .predictions import Predictions
from .surrogates import SurrogateLoss
from .surrogates.spans import gold_log_probs

_BINS = 24
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
    """The weights of the targets of some predictions, against their probabilities. Of spans, the targets are the gold
    start and the gold end, whose probability is taken from the other positions in proportion to theirs."""
    found = _span_weights(loss, predictions) if loss.task == "question_answering" else _token_weights(loss, predictions)
    if found is None:
        return None
    probability, weight = found
    order = probability.argsort()
    probability, weight = probability[order], weight[order] / weight.abs().mean().clamp(min=1e-30)
    bins = [(p, w) for p, w in zip(probability.chunk(_BINS), weight.chunk(_BINS), strict=True)]
    low, median, high = torch.stack([w.quantile(torch.tensor([0.1, 0.5, 0.9])) for _, w in bins]).T
    rewards_lower = float((weight < -_NEGATIVE).float().mean())
    return WeightCurve(torch.stack([p.median() for p, _ in bins]), median, low, high, rewards_lower)


def _token_weights(loss: SurrogateLoss, predictions: Predictions) -> tuple[Tensor, Tensor] | None:
    if "target_log_probs" not in loss.reads:
        return None
    log_probs = predictions.features["target_log_probs"].clone().requires_grad_(True)
    mask = predictions.features["target_mask"]
    (gradient,) = torch.autograd.grad(loss(predictions.features | {"target_log_probs": log_probs}).sum(), log_probs)
    weights = -gradient * mask.sum(1, keepdim=True)
    return log_probs.detach()[mask].exp(), weights[mask]


def _span_weights(loss: SurrogateLoss, predictions: Predictions) -> tuple[Tensor, Tensor]:
    names = ("start_log_probs", "end_log_probs")
    logits = [loss.to_logits(predictions.features[name]).clone().requires_grad_(True) for name in names]
    scores = {name: loss.from_logits(value) for name, value in zip(names, logits, strict=True)}
    gradients = torch.autograd.grad(loss(predictions.features | scores).sum(), logits)
    probabilities = gold_log_probs(predictions.features).exp()
    first = predictions.features["gold_spans"][:, 0]
    slopes = [g.gather(1, gold) for g, gold in zip(gradients, first.split(1, 1), strict=True)]
    movable = probabilities < 0.9999  # a certain target cannot gain: its weight is 0 / 0
    return probabilities[movable], (-2 * torch.cat(slopes, 1) / (1 - probabilities))[movable]
