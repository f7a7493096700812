"""Candidates of the same images: a model's logits, perturbed as another training might change them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...classes.losses import targets_of
from ...surrogate import Features

# In standard deviations of the logits.
_SCALE = 0.3
# Fields of noise that the copies mix.
_FIELDS = 4


def perturbed(
    features: Features, count: int, generator: torch.Generator, strength: float = 1.0, names: Sequence[str] = ()
) -> Features:
    """`count` copies of some images, one after the other.

    Each copy has a shift of each class, a step to the gold classes or away from them, which differs by class, and noise
    of each pixel. Each image has a shift of each class of its own, so that whole things are missed, invented or
    mistaken.

    Args:
        features: `logits` and `labels` of `n` images, `(n, H, W, C)` and `(n, H, W)`.
        count: number of copies.
        generator: draws the perturbations.
        strength: factor of the perturbations. It is 1, or more if 1 changes no prediction.
        names: not read.

    Returns:
        The features of `count · n` images.
    """
    logits, labels = features["logits"].float(), features["labels"]
    images, classes = len(logits), logits.shape[-1]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    spread = strength * _SCALE * (logits - logits.mean(-1, keepdim=True)).std()
    shift = normal(count, 1, classes) + 0.5 * normal(count, 1, 1).abs() * normal(count, images, classes)
    step = 0.5 * (normal(count, 1, 1) + normal(count, 1, classes))
    noise = 0.5 * normal(count, 1).abs() * normal(count, _FIELDS) / _FIELDS**0.5
    # Copies are large, so they are made by one product, and changed in place.
    copies = (spread * noise @ normal(_FIELDS, logits.numel())).view(count, images, -1, classes)
    copies += logits.flatten(1, 2)
    gold = targets_of(features).flatten(1, 2)
    copies += (spread * (shift - step / classes)).unsqueeze(2)
    copies.addcmul_(gold, (spread * step).unsqueeze(2))
    return {"logits": copies.view(count * images, *logits.shape[1:]), "labels": labels.repeat(count, 1, 1)}
