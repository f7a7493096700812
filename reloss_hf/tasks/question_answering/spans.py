"""Spans of a window, their probabilities and their overlap with the gold answer. See `losses` for the features."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...surrogate import Features

# The most tokens of an answer: the convention of SQuAD systems, for decoding and for the losses.
MAX_ANSWER_LENGTH = 30
# Scores below the first are raised to it; masked positions get the second. Both are finite: -inf has no gradient.
_LOWEST_SCORE = -1e6
_MASKED_SCORE = -1e30


@dataclass
class OverlappingSpans:
    """All spans of at most `w` tokens that share a token with the gold span: `R` starts, `w` lengths.

    Attributes:
        probability: of each, 0 where the span is not in the context; shape `(n, R, w)`.
        precision: the share of the span's tokens that are gold, likewise; 0 where none is.
        recall: the share of the gold tokens that are in the span.
        f1: their harmonic mean.
        null: probability of the null answer, shape `(n,)`.
        gold_is_null: whether it is the gold answer, shape `(n,)`.
    """

    probability: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor
    null: Tensor
    gold_is_null: Tensor

    def expected(self, *values: Tensor) -> Tensor:
        """`Σ P(s, e) value(s, e)` of values that are 0 where nothing overlaps and 1 on the gold span; `(n, values)`."""
        sums = self.probability.flatten(1).unsqueeze(1) @ torch.stack(values, dim=-1).flatten(1, 2)
        return torch.where(self.gold_is_null[:, None], self.null[:, None], sums.squeeze(1))


def overlapping_spans(features: Features, max_answer_length: int, sharpness: Tensor | None = None) -> OverlappingSpans:
    """The spans that overlap the gold one; no other adds to an expected overlap.

    Memory is in proportion to `L + (w + longest gold span) · w`.

    Args:
        features: those of `ExpectedF1Loss.reads`.
        max_answer_length: `w`, in tokens.
        sharpness: None for the probabilities `p(s) p(e)`, which pairs that are no spans have a part of; else those of
            `SharpenedF1Surrogate`.
    """
    context, null_mask, gold = features["context_mask"], features["null_mask"], features["gold_spans"][:, 0].long()
    start, end = (_scores(features, name) for name in ("start_log_probs", "end_log_probs"))
    max_answer_length = min(max_answer_length, start.shape[1])
    if sharpness is None:
        start, end = start.log_softmax(1), end.log_softmax(1)
    else:
        start, end = sharpness * start, sharpness * end
    null = sum(scores.masked_fill(~null_mask, _MASKED_SCORE).amax(1) for scores in (start, end))
    start, end = (scores.masked_fill(~context, _MASKED_SCORE) for scores in (start, end))
    log_total = torch.zeros_like(null)
    if sharpness is not None:
        log_total = _logaddexp((start + _windowed_logsumexp(end, max_answer_length)).logsumexp(1), null)

    first, last = gold[:, :1, None], gold[:, 1:, None]
    gold_length = last - first + 1
    starts = torch.arange(1 - max_answer_length, int(gold_length.max()), device=gold.device)[None, :, None] + first
    lengths = torch.arange(1, max_answer_length + 1, device=gold.device)[None, None, :]
    ends = starts + lengths - 1
    overlap = (torch.minimum(ends, last) - torch.maximum(starts, first) + 1).clamp(min=0)
    return OverlappingSpans(
        probability=(_gather(start, starts) + _gather(end, ends) - log_total[:, None, None]).exp(),
        precision=(overlap / lengths).to(start),
        recall=(overlap / gold_length).to(start),
        f1=(2 * overlap / (lengths + gold_length)).to(start),
        null=(null - log_total).exp(),
        gold_is_null=null_mask.gather(1, gold[:, :1]).squeeze(1),
    )


def gold_log_probs(features: Features) -> Tensor:
    """Log-probabilities of the first gold start and end, normalised over the positions of the window; `(n, 2)`."""
    return all_gold_log_probs(features)[:, 0]


def all_gold_log_probs(features: Features) -> Tensor:
    """Likewise of all gold answers; shape `(n, G, 2)`."""
    columns = []
    for column, name in enumerate(("start_log_probs", "end_log_probs")):
        logits = _scores(features, name)
        gold = features["gold_spans"][..., column].long()
        columns.append(logits.gather(1, gold) - logits.logsumexp(1, keepdim=True))
    return torch.stack(columns, dim=2)


def gold_shares(features: Features) -> Tensor:
    """What share of a row's gold answers each is, 0 where the null position only fills up; shape `(n, G)`."""
    is_null = features["null_mask"].gather(1, features["gold_spans"][..., 0].long())
    counts = (~is_null | is_null.all(1, keepdim=True)).to(features["start_log_probs"])
    return counts / counts.sum(1, keepdim=True)


def best_spans(
    start_logits: Tensor, end_logits: Tensor, context_mask: Tensor, max_answer_length: int = MAX_ANSWER_LENGTH
) -> tuple[Tensor, Tensor]:
    """The spans in the context with the highest sum of logits.

    Args:
        start_logits: shape `(n, L)`.
        end_logits: likewise.
        context_mask: likewise.
        max_answer_length: in tokens.

    Returns:
        Start and end, int64 of shape `(n, 2)`, and the sum of their logits, shape `(n,)`.
    """
    outside = ~context_mask
    start = start_logits.float().clamp(min=_LOWEST_SCORE).masked_fill(outside, _MASKED_SCORE)
    end = end_logits.float().clamp(min=_LOWEST_SCORE).masked_fill(outside, _MASKED_SCORE)
    width = min(max_answer_length, start.shape[1])
    ends = nn.functional.pad(end, (0, width - 1), value=_MASKED_SCORE).unfold(1, width, 1)
    best_end, length = ends.max(2)
    score, first = (start + best_end).max(1)
    return torch.stack([first, first + length.gather(1, first[:, None]).squeeze(1)], dim=1), score


def _scores(features: Features, name: str) -> Tensor:
    """The log-probabilities, finite, and low where a position is none."""
    return features[name].clamp(min=_LOWEST_SCORE).masked_fill(~features["position_mask"], _MASKED_SCORE)


def _gather(scores: Tensor, positions: Tensor) -> Tensor:
    """`scores[i, positions[i, ...]]`, low where a position lies outside; `positions` has three dimensions."""
    outside = (positions < 0) | (positions >= scores.shape[1])
    flat = positions.clamp(0, scores.shape[1] - 1).flatten(1)
    return scores.gather(1, flat).view(positions.shape).masked_fill(outside, _MASKED_SCORE)


def _windowed_logsumexp(scores: Tensor, width: int) -> Tensor:
    """`out[:, s] = logsumexp(scores[:, s : s + width])`, from blocks whose sizes are powers of two."""

    def shifted(values: Tensor, by: int) -> Tensor:
        return nn.functional.pad(values[:, by:], (0, by), value=_MASKED_SCORE)

    total, done, size = torch.full_like(scores, _MASKED_SCORE), 0, 1
    while done < width:
        if width & size:
            total = _logaddexp(total, shifted(scores, done))
            done += size
        scores = _logaddexp(scores, shifted(scores, size))
        size *= 2
    return total


def _logaddexp(left: Tensor, right: Tensor) -> Tensor:
    """As `torch.logaddexp`, whose double backward is NaN where the two are far apart."""
    return torch.stack([left, right]).logsumexp(0)
