"""Candidates of the same examples: a model's logits, perturbed as another training might change them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...classes.losses import targets_of
from ...surrogate import Features

# These are in standard deviations of the logits; benchmarks/classification.py measures them.
_SCALE = 0.3


def perturbed(
    features: Features, count: int, generator: torch.Generator, strength: float = 1.0, names: Sequence[str] = ()
) -> Features:
    """`count` copies of some examples, one after the other. Each copy has a shift of each class and of all classes, a
    step to the gold label or away from it, and noise of each example.

    Args:
        features: `logits` and `labels` of `n` examples.
        count: number of copies.
        generator: draws the perturbations.
        strength: factor of the perturbations. It is 1, or more if 1 changes no prediction.
        names: not read.

    Returns:
        The features of `count · n` examples.
    """
    logits, labels = features["logits"].float(), features["labels"]
    examples, classes = logits.shape
    several = labels.ndim == 2

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    targets = targets_of(features)
    gold = 2 * targets - 1 if several else targets - 1 / classes
    shift = normal(count, 1, classes) + (normal(count, 1, 1) if several else 0)  # a common shift moves no arg-max
    step = 0.5 * (normal(count, 1, 1) + normal(count, 1, classes)) * gold
    noise = 0.5 * normal(count, 1, 1).abs() * normal(count, examples, classes)
    spread = logits.std(0).mean() if several else (logits - logits.mean(1, keepdim=True)).std()
    copies = logits + strength * _SCALE * spread * (shift + step + noise)
    return {"logits": copies.flatten(0, 1), "labels": labels.repeat(count, *[1] * (labels.ndim - 1))}
