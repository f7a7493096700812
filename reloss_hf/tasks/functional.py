"""Small functions that the losses of several tasks share."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

# Log-odds beyond these have no float32 gradient worth following: 1 - p is below 3e-7, or p below 1e-13.
_MAX_LOG_ODDS = 15.0
_MIN_LOG_ODDS = -30.0


# What a model card lists as limits of the losses that read text.
LIMITS_OF_TEXT = (
    "It orders groups of predictions like those that it was learned from. Measure how well it orders those of "
    "another model, language or domain (`reloss diagnose`).",
    "It sharpens what a model knows. Switch to it late, when cross-entropy gains slowly.",
)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the entries of the last dimension that `mask` marks; 0 if it marks none."""
    return values.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def to_the_left(kept: Tensor, *values: Tensor) -> list[Tensor]:
    """Each of the values with what `kept` marks at the left of its last dimension, in order, and the rest behind it.
    Values may have more dimensions."""
    order = (~kept).to(torch.uint8).argsort(dim=-1, stable=True)

    def moved(value: Tensor) -> Tensor:
        places = order.view(*order.shape, *[1] * (value.ndim - kept.ndim))
        return value.gather(kept.ndim - 1, places.expand_as(value))

    return [moved(value) for value in values]


def copied(features: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """`count` copies of the features of some examples, one after the other."""
    return {name: value.repeat(count, *[1] * (value.ndim - 1)) for name, value in features.items()}


def as_bytes(texts: Sequence[str]) -> Tensor:
    """The texts in UTF-8, uint8 of shape `(n, longest)`, filled up with 0."""
    rows = np.array([text.encode() for text in texts], dtype=np.bytes_)
    return torch.from_numpy(rows.view(np.uint8).reshape(len(texts), rows.itemsize).copy())


def from_bytes(rows: Tensor) -> list[str]:
    """The inverse of `as_bytes`."""
    rows = np.ascontiguousarray(rows.numpy())
    return [text.decode() for text in rows.view(f"S{rows.shape[1]}").ravel().tolist()]


def log_odds(log_probs: Tensor) -> Tensor:
    """`log p - log(1 - p)`, within [-30, 15]; the gradient is 0 outside."""
    log_probs = log_probs.clamp(_MIN_LOG_ODDS, logsigmoid(torch.tensor(_MAX_LOG_ODDS)).item())
    return log_probs - (-log_probs.expm1()).log()


def inverse_softplus(value: float) -> Tensor:
    return torch.tensor(value).expm1().log()
