"""Features of target tokens, from logits and labels. These functions need tensors alone."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from ..base import Candidate, uniform_draws


def targets_of(labels: Tensor) -> Tensor:
    """The labels, with -100 for every negative label. Such a label is no token, and losses skip it."""
    return labels.masked_fill(labels < 0, -100)


def aligned(logits: Tensor, labels: Tensor, shifts: bool) -> tuple[Tensor, Tensor]:
    """Logits and the targets that they predict, of the same shape `(n, T)`.

    Logits may follow those of a learned prompt. The last logit of the prompt then predicts the first label. A sequence
    of one token has nothing to predict: its target is -100.

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
    """Log-probabilities of the labels, float32 of the shape of `labels`; 0 for a label of -100."""
    losses = cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="none")
    return -losses.view_as(labels)


def log_probs_of_all(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of every token of a row at each position, float32 of shape `(n, H, T)`, from logits `(n, H,
    vocabulary)` and tokens `(n, T)`. Negative tokens count as token 0."""
    wanted = tokens.clamp(min=0).unsqueeze(1).expand(-1, logits.shape[1], -1)
    return logits.float().log_softmax(-1).gather(2, wanted)


def with_draft(input_ids: Tensor, draft: Tensor) -> Tensor:
    """The input of a decoder-only model with a draft in place of the target.

    Args:
        input_ids: shape `(n, T)`.
        draft: the token that each position predicts, -100 for none; shape `(n, T)` or `(n, T - 1)`.
    """
    draft = draft[:, : input_ids.shape[1] - 1]
    return torch.cat([input_ids[:, :1], torch.where(draft >= 0, draft, input_ids[:, 1:])], dim=1)


def moves_labels(logits: Tensor, labels: Tensor, loss: Tensor) -> bool | None:
    """Whether the loss, a scalar, is cross-entropy with labels shifted by one position. False if it is cross-entropy
    with unshifted labels, None if it is neither or both."""
    found = {}
    for shifts in (False, True):
        scores, targets = aligned(logits, labels, shifts)
        count = (targets != -100).sum().clamp(min=1)
        found[shifts] = (target_log_probs(scores, targets).sum() / count + loss).abs().item()
    best = min(found, key=found.get)
    tells = found[best] < 1e-2 * max(1.0, loss.item()) and found[best] < 0.5 * found[not best]
    return best if tells else None


def texts_of(position_ids: Tensor | None, labels: Tensor) -> Tensor | None:
    """The number of the packed text that each position of a row belongs to, counted from 0, of the shape `(n, T)` of
    `labels`. None if nothing is packed. A text begins where the position ids do not grow by one."""
    if position_ids is None or position_ids.ndim != 2 or position_ids.shape[1] != labels.shape[1]:
        return None
    begins = position_ids.diff(dim=1) != 1
    if not begins.any():
        return None
    return pad(begins.cumsum(1), (1, 0)).expand(len(labels), -1)


def unpacked(texts: Tensor | None, targets: Tensor, **values: Tensor) -> dict[str, Tensor]:
    """Targets, and values beside them, with one row for each packed text.

    A text without a target, such as padding, is left out, unless all texts are without one.

    Args:
        texts: the result of `texts_of`, shape `(n, T)`; None if nothing is packed.
        targets: shape `(n, T)`, or fewer columns for the last positions; -100 marks no target.
        values: of the shape of `targets`. Shorter rows are filled up with 0.
    """
    if texts is None:
        return {"targets": targets, **values}
    rows = torch.arange(len(targets), device=targets.device).unsqueeze(1)
    keys = rows * (texts.max() + 1) + texts[:, -targets.shape[1] :]
    text = keys.unique(return_inverse=True)[1].flatten()
    lengths, counts = text.bincount(), text.bincount(weights=(targets != -100).flatten().float())
    column = torch.arange(len(text), device=text.device) - (lengths.cumsum(0) - lengths)[text]
    kept = counts > 0 if counts.any() else torch.arange(len(counts), device=text.device) == 0

    def apart(value: Tensor, filling: int) -> Tensor:
        table = value.new_full((len(lengths), int(lengths.max())), filling)
        return table.index_put((text, column), value.flatten())[kept, : int(lengths[kept].max())]

    apart_values = {name: apart(value, 0) for name, value in values.items()}
    return {"targets": apart(targets, -100), **apart_values}


def first_equal(tokens: Tensor) -> Tensor:
    """For each position of a row, the first position with an equal token; int16."""
    return (tokens.unsqueeze(2) == tokens.unsqueeze(1)).to(torch.uint8).argmax(-1).to(torch.int16)


def strongest_rivals(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The `best` token at each position, the strongest `rivals` of the target, and their `lead`: their logits minus
    those of the target. All have the shape of `labels`."""
    best, second = logits.topk(2).indices.unbind(-1)
    rivals = torch.where(best == labels, second, best)
    pairs = logits.gather(2, torch.stack([rivals, labels.clamp(min=0)], dim=2)).float()
    return {"best": best, "rivals": rivals, "lead": pairs.diff(dim=2).squeeze(2).neg()}


def swap_with_rival(
    labels: Tensor,
    log_probs: Tensor,
    best: Tensor,
    rivals: Tensor,
    lead: Tensor,
    candidate: Candidate,
    seeds: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Scores and predictions after swapping the target and its strongest rival at a share of the positions. An
    improvement swaps where the model is wrong, a corruption where it is right."""
    right = best == labels
    mask = labels != -100
    draws = uniform_draws(seeds, labels.shape[1]).to(labels.device).gather(1, (mask.cumsum(1) - 1).clamp(min=0))
    chosen = (draws < candidate.corruption) & mask & (~right if candidate.improve else right)
    swapped = torch.where(right, rivals, labels)
    return torch.where(chosen, log_probs + lead, log_probs), torch.where(chosen, swapped, best)
