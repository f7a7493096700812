"""Corrupts and improves predictions, so that groups of different questions have scores of all degrees."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...surrogate import Features
from ..base import Candidate, uniform_draws

# A corrupted start or end mostly moves by at most so many tokens, so that overlaps of all degrees occur.
_NEAR = 6


def swapped(
    start: Tensor, end: Tensor, predicted: Tensor, features: Features, candidate: Candidate, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The logits after swapping two positions, for a share of the starts and of the ends. An improvement swaps the gold
    and the predicted position, a corruption the gold one and another, mostly a near one.

    Args:
        start: logits of starts, shape `(n, L)`.
        end: logits of ends, shape `(n, L)`.
        predicted: the predicted spans, shape `(n, 2)`.
        features: `context_mask` and `gold_spans`.
        candidate: tells the share, and whether to improve.
        seeds: a seed for each window.
    """
    context = features["context_mask"]
    first, count = context.int().argmax(1), context.sum(1)
    draws = uniform_draws(seeds, 6).to(context.device).unflatten(1, (2, 3))
    found = []
    for column, logits in enumerate((start, end)):
        gold = features["gold_spans"][:, 0, column]
        chosen, far, place = draws[:, column].unbind(1)
        if candidate.improve:
            other = predicted[:, column]
        else:
            near = gold - first + (place * (2 * _NEAR + 1)).long() - _NEAR
            anywhere = (place * count).long()
            other = first + torch.where(far < 0.3, anywhere, near).clamp(min=0).minimum((count - 1).clamp(min=0))
        pair = torch.stack([gold, other], dim=1)
        exchanged = logits.scatter(1, pair, logits.gather(1, pair.flip(1)))
        found.append(torch.where((chosen < candidate.corruption)[:, None], exchanged, logits))
    return found[0], found[1]
