"""Features of target tokens, from logits and labels: functions of tensors alone."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..base import Candidate, uniform_draws


def targets_of(labels: Tensor) -> Tensor:
    """The labels with -100 wherever they are negative: such a label is no token, and losses pass over it."""
    return labels.masked_fill(labels < 0, -100)


def aligned(logits: Tensor, labels: Tensor, shifts: bool) -> tuple[Tensor, Tensor]:
    """Logits and the targets that they predict, of the same shape `(n, T)`.

    Logits may follow those of a learned prompt, the last of which predicts the first label, too. Of a sequence of one
    token, nothing is predicted: its target is -100.

    Args:
        shifts: whether the logits at a position predict the label at the next one.
    """
    targets, length = targets_of(labels), labels.shape[1]
    if not shifts:
        return logits[:, -length:], targets
    if logits.shape[1] > length:
        return logits[:, -length - 1 : -1], targets
    if length == 1:
        return logits, torch.full_like(targets, -100)
    return logits[:, :-1], targets[:, 1:]


def target_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probabilities of the labels, float32 of the shape of `labels`; 0 where a label is -100."""
    losses = cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="none")
    return -losses.view_as(labels)


def to_the_left(mask: Tensor, **values: Tensor) -> dict[str, Tensor]:
    """Move what `mask` marks to the left of each row, in order."""
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    return {name: value.gather(1, order) for name, value in values.items()}


def first_equal(tokens: Tensor) -> Tensor:
    """For each position of a row, the first position with an equal token; int16."""
    return (tokens.unsqueeze(2) == tokens.unsqueeze(1)).to(torch.uint8).argmax(-1).to(torch.int16)


def swap_with_rival(
    logits: Tensor,
    labels: Tensor,
    log_probs: Tensor,
    strongest: tuple[Tensor, Tensor],
    candidate: Candidate,
    seeds: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """What scores and predictions would be had the model mixed up the target and its strongest rival at a share of the
    positions: of those where it is wrong (an improvement), or of those where it is right."""
    best, second = strongest
    right = best == labels
    mask = labels != -100
    draws = uniform_draws(seeds, labels.shape[1]).to(labels.device).gather(1, (mask.cumsum(1) - 1).clamp(min=0))
    chosen = (draws < candidate.corruption) & mask & (~right if candidate.improve else right)
    rivals = torch.where(right, second, best)
    gain = logits.gather(2, torch.stack([rivals, labels.clamp(min=0)], dim=2)).float().diff(dim=2).squeeze(2).neg()
    swapped = torch.where(right, rivals, labels)
    return torch.where(chosen, log_probs + gain, log_probs), torch.where(chosen, swapped, best)
