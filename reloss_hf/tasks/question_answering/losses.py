"""Losses on spans: extractive question answering.

They read the probabilities that the model gives to each position of a window as the start and as the end of the answer.
A span has a start and an end in the context, and the end is not before the start. A question without an answer has the
null answer, which starts and ends at the null position (the `[CLS]` token). The overlap of two spans is counted in
tokens.

| feature | shape | meaning |
|---|---|---|
| `start_log_probs` | `(n, L)` | log-probability of each position as the start |
| `end_log_probs` | `(n, L)` | log-probability of each position as the end |
| `position_mask` | `(n, L)` | the positions of the window; probabilities are normalised over them |
| `context_mask` | `(n, L)` | the positions where an answer may start and end |
| `null_mask` | `(n, L)` | the null position |
| `gold_spans` | `(n, G, 2)` | start and end, inclusive, of the gold answers, filled up with the null position |

A window whose answer lies behind its end has an empty `position_mask` and does not count.

Cross-entropy and the overlap use the first gold answer.

| loss | learned | reads | never raised by probability that moves to the gold |
|---|---|---|---|
| `SpanCrossEntropy` | nothing | first gold positions | start or end, from any other |
| `AnswersCrossEntropy` | nothing | all gold positions | start or end, from one that is not gold |
| `AnswersSurrogate` | 1 number | all gold positions | start or end, from one that is not gold |
| `ExpectedF1Loss` | nothing | all spans | start or end, from any other |
| `AbstentionCosts` | 3 costs | all gold positions, the null position | start or end, from one that is not gold |
| `SpanSurrogateMLP` | a network | first gold positions | start or end, from any other |
| `OverlapSurrogate` | 9 numbers | all spans | span, from a disjoint one |
| `SharpenedF1Surrogate` | 1 number | all spans | span, from a disjoint one |
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus

from ...surrogate import Features, SurrogateLoss
from ..functional import LIMITS_OF_TEXT, inverse_softplus, log_odds
from .spans import (
    MAX_ANSWER_LENGTH,
    SCORES,
    OverlappingSpans,
    all_gold_log_probs,
    gold_log_probs,
    gold_shares,
    overlapping_spans,
)

_THRESHOLDS = (0.2, 0.4, 0.6, 0.8, 1.0)


class SpanSurrogate(SurrogateLoss):
    """Base of the losses that read the scores of starts and ends."""

    task = "question_answering"
    reads = (*SCORES, "position_mask", "gold_spans")
    scores = SCORES
    about = "depends on no vocabulary and no model"
    limits = LIMITS_OF_TEXT

    @abstractmethod
    def score(self, features: Features) -> Tensor: ...

    @staticmethod
    def cross_entropy(features: Features) -> Tensor:
        return -gold_log_probs(features).mean(1)

    @staticmethod
    def weights(features: Features) -> Tensor:
        """1 for each window, 0 if its answer lies behind its end."""
        return features["position_mask"].any(1).float()

    @staticmethod
    def from_logits(logits: Tensor) -> Tensor:
        return log_softmax(logits, -1)

    def target_weights(self, features: Features) -> tuple[Tensor, Tensor]:
        """The weights of the gold start and the gold end. A gain in their probability is taken from the other positions
        in proportion to theirs."""
        logits = [self.to_logits(features[name]).clone().requires_grad_(True) for name in self.scores]
        changed = {name: self.from_logits(value) for name, value in zip(self.scores, logits, strict=True)}
        gradients = torch.autograd.grad(self(features | changed).sum(), logits)
        probabilities = gold_log_probs(features).exp()
        first = features["gold_spans"][:, 0]
        slopes = [g.gather(1, gold) for g, gold in zip(gradients, first.split(1, 1), strict=True)]
        movable = probabilities < 0.9999  # a certain target cannot gain: its weight is 0 / 0
        return probabilities[movable], (-2 * torch.cat(slopes, 1) / (1 - probabilities))[movable]


class SpanCrossEntropy(SpanSurrogate):
    """`-(log p(start) + log p(end)) / 2`: cross-entropy as a loss of its own, for comparison."""

    def score(self, features: Features) -> Tensor:
        return self.cross_entropy(features)


class AnswersCrossEntropy(SpanSurrogate):
    """The mean of cross-entropy over all gold answers, the hand-made loss that uses them all.

    An answer that several annotators gave counts several times.
    """

    reads = (*SpanSurrogate.reads, "null_mask")

    def score(self, features: Features) -> Tensor:
        return -(all_gold_log_probs(features).mean(2) * gold_shares(features)).sum(1)


class AnswersSurrogate(SpanSurrogate):
    """Cross-entropy with all gold answers. The answer that the model thinks best counts most.

    `-1/b · log mean_g exp(b · log p_g)`, where `log p_g` is the mean of the log-probabilities of the start and the end
    of gold answer `g`. For `b` near 0 this is the mean over the answers, for `b = 1` their marginal likelihood, and for
    large `b` the best answer alone. An answer that several annotators gave counts several times.

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

    A span's probability is `P(s, e) ∝ (p(s) p(e))^a` over the spans that decoding chooses from: those in the context of
    at most `w` tokens, and the null answer. As `a` grows, the decoded span gets more of the probability, and the loss
    tends to one minus the F1 of the decoded span.

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

    def _sharpened_spans(self, features: Features) -> OverlappingSpans:
        return overlapping_spans(features, self.max_answer_length, softplus(self.sharpness))


class OverlapSurrogate(SharpenedF1Surrogate):
    """`SharpenedF1Surrogate` with more measures of overlap than F1: `1 - Σ_i w_i E[x_i]`.

    `x` are the span's precision, its recall, its F1, and whether F1 reaches 0.2, 0.4, 0.6, 0.8 and 1 (an exact match).
    The weights tell how the metric values overlap. Every `x` is 1 on the gold span and 0 on a disjoint one, so the loss
    never rises when probability moves from a disjoint span to the gold one.

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
    """A surrogate in the manner of the paper: the scores of the gold start and end → MLP → loss.

    The paper's surrogate is not monotone: near 1 it rewards a lower gold probability. Here the weights are kept
    positive, so a higher gold probability never raises the loss.

    Args:
        width: width of the two hidden layers.

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
