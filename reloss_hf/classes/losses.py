"""What losses on decisions between classes have in common, whatever an example is.

An example has one decision, such as the class of a text, or several, such as the tags of a sentence.

| feature | shape | meaning |
|---|---|---|
| `logits` | `(n, ..., C)` | logits of the classes |
| `labels` | `(n, ...)` | the class of each decision, or -100 for no class |
| | `(n, C)`, with `logits` of the same shape | 0/1 for each of several labels |
"""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ..surrogate import Features, SurrogateLoss, weighted_mean

IGNORED = -100


class DecisionLoss(SurrogateLoss):
    """Base of the losses on decisions between classes. The loss of an example is the mean over its decisions, and its
    weight is their number."""

    reads = ("logits", "labels")
    scores = ("logits",)
    limits = (
        "Its costs fit the model and the data that it was learned with. For others, learn it again.",
        "It moves decisions to those that the metric rewards, so the probabilities are no longer calibrated.",
    )

    @abstractmethod
    def score(self, features: Features) -> Tensor: ...

    @staticmethod
    def cross_entropy(features: Features) -> Tensor:
        return mean_of_decisions(cross_entropies(features), features)

    @staticmethod
    def weights(features: Features) -> Tensor:
        """The number of decisions with a label of each example; 1 for an example with several labels."""
        known = labelled(features).float()
        return known.flatten(1).sum(1) if known.ndim > 1 else known

    def target_weights(self, features: Features) -> tuple[Tensor, Tensor]:
        """The probability of each gold label, and the slope of the loss in its logit, divided by the slope of
        cross-entropy."""
        slopes = []
        for loss in (self.batch_loss, lambda given: weighted_mean(self.cross_entropy(given), self.weights(given))):
            logits = features["logits"].clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(loss(features | {"logits": logits}), logits)
            slopes.append(slope)
        gold = targets_of(features) > 0
        gold &= slopes[1].abs() > 1e-4 * slopes[1].abs().amax()  # a certain target cannot gain: its weight is 0 / 0
        return probabilities(features)[gold], (slopes[0] / slopes[1])[gold]


def has_several(features: Features) -> bool:
    """Whether an example has 0/1 for each of several labels."""
    return features["labels"].ndim == features["logits"].ndim


def labelled(features: Features) -> Tensor:
    """Which decisions have a label, shape `(n, ...)`; `(n,)` for several labels, which all examples have."""
    labels = features["labels"]
    return torch.ones_like(labels[:, 0], dtype=torch.bool) if has_several(features) else labels != IGNORED


def targets_of(features: Features) -> Tensor:
    """The gold labels as 0/1, float32 of shape `(n, ..., C)`; all 0 for a decision without a label."""
    labels = features["labels"]
    if has_several(features):
        return labels.float()
    return _one_hot(labels.unsqueeze(-1), features["logits"].shape[-1])


def decisions(logits: Tensor, several: bool) -> Tensor:
    """The predictions as 0/1, float32 of shape `(..., C)`: the labels with `p > 0.5`, or the arg-max."""
    return (logits > 0).float() if several else _one_hot(logits.argmax(-1, keepdim=True), logits.shape[-1])


def probabilities(features: Features) -> Tensor:
    """The probabilities of the classes, shape `(n, ..., C)`."""
    logits = features["logits"].float()
    return logits.sigmoid() if has_several(features) else logits.softmax(-1)


def cross_entropies(features: Features, **settings) -> Tensor:
    """The cross-entropy of each decision, shape `(n, ...)`, or of each of several labels, shape `(n, C)`.

    Args:
        features: `logits` and `labels`.
        settings: keywords for the function of torch, such as weights.
    """
    logits, labels = features["logits"].float(), features["labels"]
    if has_several(features):
        return binary_cross_entropy_with_logits(logits, labels.float(), reduction="none", **settings)
    losses = cross_entropy(
        logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=IGNORED, reduction="none", **settings
    )
    return losses.view(labels.shape)


def mean_of_decisions(values: Tensor, features: Features) -> Tensor:
    """The mean of values of decisions, `(n, ..., *shape of one)`, over those of each example with a label,
    `(n, *shape of one)`. The mean over labels, if an example has several."""
    if has_several(features):
        return values.mean(1)
    known = labelled(features)
    if known.ndim == 1:
        return values * known.view(-1, *[1] * (values.ndim - 1))
    values = values.flatten(1, known.ndim - 1)
    weights = known.flatten(1).view(*values.shape[:2], *[1] * (values.ndim - 2)).to(values.dtype)
    return (weights * values).sum(1) / weights.sum(1).clamp(min=1)


def _one_hot(classes: Tensor, count: int) -> Tensor:
    """Classes, `(..., 1)`, as 0/1, float32 of shape `(..., count)`; all 0 for one that is none of them."""
    return (classes == torch.arange(count, device=classes.device)).float()
