"""The scale of a loss's gradient in the logits of a model."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..surrogate import Features, SurrogateLoss
from .functional import example_gradient_norms


@torch.enable_grad()
def scale_to_cross_entropy(surrogate: SurrogateLoss, features: Features) -> None:
    """Scale a loss so that its gradient is as long as that of cross-entropy for these predictions, which should come
    from the model at the switch. Optimizers remember the scale of earlier gradients, so hand-made losses need it, too.

    Args:
        surrogate: the loss, changed in place.
        features: the features that the loss and cross-entropy read.
    """
    norms = []
    for loss in (surrogate, surrogate.cross_entropy):
        losses, logits = with_logits(loss, features, surrogate)
        norms.append(example_gradient_norms(losses, logits).square().mean().sqrt())
    if norms[0] > 0 and norms[1] > 0:
        with torch.no_grad():
            surrogate.log_scale.add_((norms[1] / norms[0]).log())


def with_logits(
    loss: Callable, features: Features, surrogate: SurrogateLoss | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The losses, and the logits behind every score of the model. The losses are differentiable in these logits."""
    surrogate = surrogate or loss
    scores = [name for name in surrogate.scores if name in features]
    logits = {name: surrogate.to_logits(features[name]).detach().requires_grad_(True) for name in scores}
    losses = loss(features | {name: surrogate.from_logits(value) for name, value in logits.items()})
    return losses, tuple(logits.values())
