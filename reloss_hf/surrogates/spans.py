"""Losses on spans: extractive question answering.

They read the probabilities that the model gives to each position of a window as the start and as the end of the
answer. A span is a start and an end not before it, both in the context; the null answer, for a question without one,
starts and ends at the null position (the `[CLS]` token). The overlap of two spans is counted in tokens.

| feature | shape | meaning |
|---|---|---|
| `start_log_probs` | `(n, L)` | log-probability of each position as the start |
| `end_log_probs` | `(n, L)` | log-probability of each position as the end |
| `position_mask` | `(n, L)` | the positions of the window; probabilities are normalised over them |
| `context_mask` | `(n, L)` | where an answer may start and end |
| `null_mask` | `(n, L)` | the null position |
| `gold_spans` | `(n, G, 2)` | start and end, inclusive, of the gold answers; where there are fewer, the null position |

The first gold answer is the one of cross-entropy, and that whose overlap is counted.

| loss | learned | reads | never raised by probability that moves to the gold |
|---|---|---|---|
| `SpanCrossEntropy` | nothing | first gold positions | start or end, from any other |
| `AnswersCrossEntropy` | nothing | all gold positions | start or end, from one that is not gold |
| `AnswersSurrogate` | 1 number | all gold positions | start or end, from one that is not gold |
| `ExpectedF1Loss` | nothing | all spans | start or end, from any other |
| `SpanSurrogateMLP` | a network | first gold positions | start or end, from any other |
| `OverlapSurrogate` | 9 numbers | all spans | span, from a disjoint one |
| `SharpenedF1Surrogate` | 1 number | all spans | span, from a disjoint one |
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus

from .base import Features, SurrogateLoss
from .tokens import inverse_softplus, log_odds

# The most tokens of an answer: the convention of SQuAD systems, for decoding and for the losses.
MAX_ANSWER_LENGTH = 30
# Scores below the first are raised to it; masked positions get the second. Both are finite: -inf has no gradient.
_LOWEST_SCORE = -1e6
_MASKED_SCORE = -1e30

_THRESHOLDS = (0.2, 0.4, 0.6, 0.8, 1.0)


class SpanSurrogate(SurrogateLoss):
    """Base of the losses that read the scores of starts and ends."""

    task = "question_answering"
    reads = ("start_log_probs", "end_log_probs", "position_mask", "gold_spans")

    @abstractmethod
    def score(self, features: Features) -> Tensor: ...

    @staticmethod
    def cross_entropy(features: Features) -> Tensor:
        return -gold_log_probs(features).mean(1)

    @staticmethod
    def to_logits(log_probs: Tensor) -> Tensor:
        return log_probs

    @staticmethod
    def from_logits(logits: Tensor) -> Tensor:
        return log_softmax(logits, -1)


class SpanCrossEntropy(SpanSurrogate):
    """`-(log p(start) + log p(end)) / 2`: cross-entropy as a loss of its own, to be compared with."""

    def score(self, features: Features) -> Tensor:
        return self.cross_entropy(features)


class AnswersCrossEntropy(SpanSurrogate):
    """Cross-entropy with all gold answers, its mean over them: the hand-made loss that knows them all.

    An answer that several annotators gave counts as often.
    """

    reads = (*SpanSurrogate.reads, "null_mask")

    def score(self, features: Features) -> Tensor:
        return -(all_gold_log_probs(features).mean(2) * gold_shares(features)).sum(1)


class AnswersSurrogate(SpanSurrogate):
    """Cross-entropy with all gold answers, more with the one that the model thinks best.

    `-1/b · log mean_g exp(b · log p_g)`, where `log p_g` is the mean of the log-probabilities of the start and the end
    of gold answer `g`: from the mean over the answers (`b` near 0), over their marginal likelihood (`b = 1`), to the
    best answer alone. An answer that several annotators gave counts as often.

    Learned: `b`, above 0, and the scale of the loss.
    """

    reads = AnswersCrossEntropy.reads

    def __init__(self):
        super().__init__()
        self.best = nn.Parameter(inverse_softplus(0.3))

    def score(self, features: Features) -> Tensor:
        best = softplus(self.best).clamp(min=1e-3)
        log_probs, share = all_gold_log_probs(features).mean(2), gold_shares(features)
        return -(best * log_probs + share.log()).logsumexp(1) / best


class ExpectedF1Loss(SpanSurrogate):
    """The exact expected F1, `1 - Σ_{s≤e, e-s<w} p(s) p(e) F1(s, e)`: the hand-made rival of every learned surrogate.

    For a question without an answer it is `1 - p(null start) p(null end)`.

    Example:
        >>> trainer = ReLossTrainer(model, ReLossTrainingArguments(surrogate_start=0.5), surrogate=ExpectedF1Loss())

    Args:
        max_answer_length: `w`, in tokens; longer spans count as wrong.
    """

    reads = (*SpanSurrogate.reads, "context_mask", "null_mask")

    def __init__(self, max_answer_length: int = MAX_ANSWER_LENGTH):
        super().__init__()
        self.max_answer_length = max_answer_length

    def score(self, features: Features) -> Tensor:
        spans = overlapping_spans(features, self.max_answer_length)
        return 1 - spans.expected(spans.f1).squeeze(1)


class SharpenedF1Surrogate(SpanSurrogate):
    """The expected F1 under the sharpened probabilities of spans: `1 - Σ P(s, e) F1(s, e)`.

    A span's probability is `P(s, e) ∝ (p(s) p(e))^a` over the spans that decoding chooses from, those in the context of
    at most `w` tokens and the null answer; the larger `a`, the more of it is on the one that is decoded. The loss tends
    to one minus the F1 of the decoded span as `a` grows.

    Learned: the sharpness `a`, and the scale of the loss.

    Args:
        max_answer_length: in tokens; longer spans count as wrong.
    """

    reads = ExpectedF1Loss.reads

    def __init__(self, max_answer_length: int = MAX_ANSWER_LENGTH):
        super().__init__()
        self.max_answer_length = max_answer_length
        self.sharpness = nn.Parameter(inverse_softplus(1.0))

    def score(self, features: Features) -> Tensor:
        spans = self._sharpened_spans(features)
        return 1 - spans.expected(spans.f1).squeeze(1)

    def _sharpened_spans(self, features: Features) -> "OverlappingSpans":
        return overlapping_spans(features, self.max_answer_length, softplus(self.sharpness))


class OverlapSurrogate(SharpenedF1Surrogate):
    """`SharpenedF1Surrogate` with more of the answer's overlap than F1: `1 - Σ_i w_i E[x_i]`.

    `x` are the span's precision, its recall, its F1, and whether that reaches 0.2, 0.4, 0.6, 0.8 and 1 (an exact
    match). The weights tell how the metric values overlap. Every `x` is 1 on the gold span and 0 on a disjoint one, so
    probability that moves from the latter to the former never raises the loss.

    Learned: the sharpness `a` and the weights `w` (a softmax), and the scale of the loss.

    Args:
        max_answer_length: in tokens; longer spans count as wrong.
    """

    def __init__(self, max_answer_length: int = MAX_ANSWER_LENGTH):
        super().__init__(max_answer_length)
        self.weight_logits = nn.Parameter(torch.zeros(3 + len(_THRESHOLDS)))

    def score(self, features: Features) -> Tensor:
        spans = self._sharpened_spans(features)
        reached = [(spans.f1 >= threshold - 1e-6).to(spans.f1) for threshold in _THRESHOLDS]
        expected = spans.expected(spans.precision, spans.recall, spans.f1, *reached)
        return 1 - expected @ self.weight_logits.softmax(0)


class SpanSurrogateMLP(SpanSurrogate):
    """In the paper's manner: the scores of the gold start and end → MLP → loss.

    The paper's own is not monotone, and rewards a lower gold probability near 1. Here the weights are kept positive,
    so that a higher one never raises the loss.

    Args:
        width: of the two hidden layers.

    References:
        Huang et al. 2022, section 4.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.width = width
        self.layers = nn.ModuleList([nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, 1)])

    def score(self, features: Features) -> Tensor:
        log_probs = gold_log_probs(features)
        hidden = torch.cat([log_probs.exp(), log_odds(log_probs) / 10], dim=1)
        for layer in self.layers:
            hidden = nn.functional.linear(hidden.tanh(), layer.weight.abs(), layer.bias)
        return softplus(-hidden.squeeze(1))


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
