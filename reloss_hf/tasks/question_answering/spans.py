"""Spans of a window, their probabilities and their overlap with the gold answer. See `losses` for the features."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...surrogate import Features

# The features that come from the model.
SCORES = ("start_log_probs", "end_log_probs")
# The longest answer in tokens, for decoding and for the losses, by the convention of SQuAD systems.
MAX_ANSWER_LENGTH = 30
# Scores below the first value are raised to it. Masked positions get the second. Both are finite, as -inf has no
# gradient.
_LOWEST_SCORE = -1e6
MASKED_SCORE = -1e30


@dataclass
class OverlappingSpans:
    """All spans of at most `w` tokens that share a token with the gold span: `R` starts, `w` lengths.

    Attributes:
        probability: the probability of each span, 0 if it is not in the context; shape `(n, R, w)`.
        precision: the share of the span's tokens that are gold, shape `(n, R, w)`; 0 if none is.
        recall: the share of the gold tokens that are in the span, shape `(n, R, w)`.
        f1: their harmonic mean, shape `(n, R, w)`.
        null: probability of the null answer, shape `(n,)`.
        gold_is_null: whether the null answer is the gold answer, shape `(n,)`.
    """

    probability: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor
    null: Tensor
    gold_is_null: Tensor

    def expected(self, *values: Tensor) -> Tensor:
        """`Σ P(s, e) value(s, e)`, shape `(n, values)`. Each value is 1 on the gold span and 0 on a disjoint one."""
        sums = self.probability.flatten(1).unsqueeze(1) @ torch.stack(values, dim=-1).flatten(1, 2)
        return torch.where(self.gold_is_null[:, None], self.null[:, None], sums.squeeze(1))


def overlapping_spans(features: Features, max_answer_length: int, sharpness: Tensor | None = None) -> OverlappingSpans:
    """The spans that overlap the gold one. No other span adds to an expected overlap.

    Memory is in proportion to `L + (w + longest gold span) · w`.

    Args:
        features: the features that `ExpectedF1Loss` reads.
        max_answer_length: `w`, in tokens.
        sharpness: the sharpness of `SharpenedF1Surrogate`. Pass None for the probabilities `p(s) p(e)`, which also give
            a part to pairs that are no spans.
    """
    context, null_mask, gold = features["context_mask"], features["null_mask"], features["gold_spans"][:, 0].long()
    start, end = (_scores(features, name) for name in SCORES)
    max_answer_length = min(max_answer_length, start.shape[1])
    if sharpness is None:
        start, end = start.log_softmax(1), end.log_softmax(1)
    else:
        start, end = sharpness * start, sharpness * end
    null = sum(scores.masked_fill(~null_mask, MASKED_SCORE).amax(1) for scores in (start, end))
    start, end = (scores.masked_fill(~context, MASKED_SCORE) for scores in (start, end))
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
        gold_is_null=gold_is_null(features),
    )


def gold_log_probs(features: Features) -> Tensor:
    """Log-probabilities of the first gold start and end, normalised over the positions of the window; `(n, 2)`."""
    return all_gold_log_probs(features)[:, 0]


def all_gold_log_probs(features: Features) -> Tensor:
    """Log-probabilities of the starts and ends of all gold answers, normalised in the same way; `(n, G, 2)`."""
    columns = []
    for column, name in enumerate(SCORES):
        logits = _scores(features, name)
        gold = features["gold_spans"][..., column].long()
        columns.append(logits.gather(1, gold) - logits.logsumexp(1, keepdim=True))
    return torch.stack(columns, dim=2)


def any_gold_log_probs(features: Features) -> Tensor:
    """Log-probabilities that the start, and the end, are those of any gold answer, normalised likewise; `(n, 2)`."""
    columns, fills_up = [], features["null_mask"] & ~gold_is_null(features).unsqueeze(1)
    for column, name in enumerate(SCORES):
        logits, gold = _scores(features, name), features["gold_spans"][..., column].long()
        is_gold = torch.zeros_like(fills_up).scatter(1, gold, True) & ~fills_up
        columns.append(logits.masked_fill(~is_gold, MASKED_SCORE).logsumexp(1) - logits.logsumexp(1))
    return torch.stack(columns, dim=1)


def null_log_odds(features: Features) -> Tensor:
    """`log p_0 - log(1 - p_0)` of the null position, as the start and as the end; `(n, 2)`."""
    columns = []
    for name in SCORES:
        scores, null = _scores(features, name), features["null_mask"]
        others = scores.masked_fill(null, MASKED_SCORE).logsumexp(1)
        columns.append(scores.masked_fill(~null, MASKED_SCORE).amax(1) - others)
    return torch.stack(columns, dim=1)


def gold_is_null(features: Features) -> Tensor:
    """Whether the null answer is the gold answer, shape `(n,)`."""
    return features["null_mask"].gather(1, features["gold_spans"][:, 0, :1].long()).squeeze(1)


def gold_shares(features: Features) -> Tensor:
    """The share of each gold answer among those of its row, shape `(n, G)`; 0 for a null position that only fills
    up."""
    is_null = features["null_mask"].gather(1, features["gold_spans"][..., 0].long())
    counts = (~is_null | is_null.all(1, keepdim=True)).to(features["start_log_probs"])
    return counts / counts.sum(1, keepdim=True)


def best_spans(
    start_logits: Tensor, end_logits: Tensor, context_mask: Tensor, max_answer_length: int = MAX_ANSWER_LENGTH
) -> tuple[Tensor, Tensor]:
    """The spans in the context with the highest sum of logits.

    Args:
        start_logits: shape `(n, L)`.
        end_logits: shape `(n, L)`.
        context_mask: shape `(n, L)`.
        max_answer_length: the longest span, in tokens.

    Returns:
        Start and end, int64 of shape `(n, 2)`, and the sum of their logits, shape `(n,)`.
    """
    start, ends = _starts_and_ends(start_logits, end_logits, context_mask, max_answer_length)
    best_end, length = ends.max(2)
    score, first = (start + best_end).max(1)
    return torch.stack([first, first + length.gather(1, first[:, None]).squeeze(1)], dim=1), score


def highest_spans(
    start_logits: Tensor,
    end_logits: Tensor,
    context_mask: Tensor,
    count: int,
    max_answer_length: int = MAX_ANSWER_LENGTH,
) -> Tensor:
    """The `count` spans in the context with the highest sums of logits, the best first, int64 of shape `(n, count, 2)`;
    see `best_spans`. If a window has fewer, the others start and end at -1."""
    start, ends = _starts_and_ends(start_logits, end_logits, context_mask, max_answer_length)
    scores = (start.unsqueeze(2) + ends).flatten(1)
    best, places = scores.topk(min(count, scores.shape[1]), dim=1)
    first, length = places // ends.shape[2], places % ends.shape[2]
    spans = torch.stack([first, first + length], dim=2)
    return spans.masked_fill((best < MASKED_SCORE / 2).unsqueeze(2), -1)


def _starts_and_ends(
    start_logits: Tensor, end_logits: Tensor, context_mask: Tensor, max_answer_length: int
) -> tuple[Tensor, Tensor]:
    """The logits of starts in the context, `(n, L)`, and of the ends of spans of each length, `(n, L, w)`."""
    outside = ~context_mask
    start = start_logits.float().clamp(min=_LOWEST_SCORE).masked_fill(outside, MASKED_SCORE)
    end = end_logits.float().clamp(min=_LOWEST_SCORE).masked_fill(outside, MASKED_SCORE)
    width = min(max_answer_length, start.shape[1])
    return start, nn.functional.pad(end, (0, width - 1), value=MASKED_SCORE).unfold(1, width, 1)


def _scores(features: Features, name: str) -> Tensor:
    """The log-probabilities, finite, and low at positions outside the window."""
    return features[name].clamp(min=_LOWEST_SCORE).masked_fill(~features["position_mask"], MASKED_SCORE)


def _gather(scores: Tensor, positions: Tensor) -> Tensor:
    """`scores[i, positions[i, ...]]`, low for a position outside the row. `positions` has three dimensions."""
    outside = (positions < 0) | (positions >= scores.shape[1])
    flat = positions.clamp(0, scores.shape[1] - 1).flatten(1)
    return scores.gather(1, flat).view(positions.shape).masked_fill(outside, MASKED_SCORE)


def _windowed_logsumexp(scores: Tensor, width: int) -> Tensor:
    """`out[:, s] = logsumexp(scores[:, s : s + width])`, from blocks whose sizes are powers of two."""

    def shifted(values: Tensor, by: int) -> Tensor:
        return nn.functional.pad(values[:, by:], (0, by), value=MASKED_SCORE)

    total, done, size = torch.full_like(scores, MASKED_SCORE), 0, 1
    while done < width:
        if width & size:
            total = _logaddexp(total, shifted(scores, done))
            done += size
        scores = _logaddexp(scores, shifted(scores, size))
        size *= 2
    return total


def _logaddexp(left: Tensor, right: Tensor) -> Tensor:
    """As `torch.logaddexp`, but its double backward is finite if the two values are far apart."""
    return torch.stack([left, right]).logsumexp(0)
