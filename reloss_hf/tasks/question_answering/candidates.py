"""Candidates of the same questions: a model's scores, perturbed as another training might change them, and the answers
that they give.

Perturbed scores are decoded without the tokenizer. So predictions keep the best spans of each window with their texts:

| feature | shape | meaning |
|---|---|---|
| `spans` | `(n, K, 2)` | start and end, inclusive, of the gold answers and of the best spans |
| `span_texts` | `(n, K, B)` | their texts in UTF-8, uint8, filled up with 0; all 0 for no span |
| `window_ids` | `(n, B)` | the id of the window, likewise |
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ...learning.predictions import Predictions
from ...surrogate import Features
from ..functional import as_bytes, copied, from_bytes
from .formats import as_prediction
from .spans import MASKED_SCORE, SCORES, gold_is_null, highest_spans, null_log_odds
from .windows import span_texts

# How many of the best spans of a window are kept. A perturbed model hardly ever prefers another one.
_BEST = 20
# Of the null score: in root mean squares of its distance from that of the best span. Of others: in standard deviations.
_SCALE = 0.3
# The lowest score of a position of the window.
_LOWEST = -1e4
# The features that are kept of predictions to decode them again.
KEPT = ("spans", "span_texts", "window_ids")


def with_spans(predictions: Predictions, input_ids: Sequence[list[int]], tokenizer: Any) -> Predictions:
    """The predictions with the features that decoding needs: the gold answers in the windows and the spans with the
    highest scores.

    Args:
        predictions: the predictions of windows.
        input_ids: the tokens of the windows.
        tokenizer: decodes the spans.
    """
    features = predictions.features
    best = highest_spans(*(features[name] for name in SCORES), features["context_mask"], _BEST)
    gold = features["gold_spans"].to(best)
    fills_up = features["null_mask"].gather(1, gold[..., 0]).unsqueeze(2)
    spans = torch.cat([gold.masked_fill(fills_up, -1), best], dim=1)
    chosen = [span if span[0] >= 0 else [] for span in spans.flatten(0, 1).tolist()]
    texts = span_texts(tokenizer, [window for window in input_ids for _ in range(spans.shape[1])], chosen)
    kept = {
        "spans": spans,
        "span_texts": as_bytes(texts).unflatten(0, spans.shape[:2]),
        "window_ids": as_bytes([reference["id"] for reference in predictions.references]),
    }
    return replace(predictions, features=features | kept)


def decode(features: Features) -> list[dict[str, Any]]:
    """The answer of each window in the format of the `squad` metrics: the kept span with the highest score, or `""` if
    the null position scores higher."""
    require_spans(features)
    best, place, null = _scores(features)
    probability = logsigmoid(null_log_odds(features)).sum(1).exp()
    texts = features["span_texts"][torch.arange(len(place)), place]
    answers = from_bytes(texts.masked_fill((null > best).unsqueeze(1), 0))
    rows = zip(from_bytes(features["window_ids"]), answers, probability.tolist(), strict=True)
    return [as_prediction(*row) for row in rows]


def perturbed(
    features: Features, count: int, generator: torch.Generator, strength: float = 1.0, names: Sequence[str] = ()
) -> Features:
    """`count` copies of some windows, one after the other.

    Each copy has a shift of the null score, one for all windows and one by window; sharper or flatter scores of spans,
    with the same probability of the null position; a step to the gold answer or away from it; and noise of each
    position.

    Args:
        features: the features of `n` windows, with those to decode.
        count: number of copies.
        generator: draws the perturbations.
        strength: factor of the perturbations. It is 1, or more if 1 changes no prediction.
        names: not read.

    Returns:
        The features of `count · n` windows. Scores are log-probabilities up to a constant, which losses take away.
    """
    require_spans(features)
    copies = copied(features, count)
    windows, length = features["null_mask"].shape
    null, known = features["null_mask"], features["position_mask"]
    context = features["context_mask"] & known

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    size = strength * _SCALE
    shift = normal(count, 1, 1) + 0.5 * normal(count, 1, 1).abs() * normal(count, windows, 1)
    sharpness = (size * normal(count, 1, 1)).exp()
    step, loudness = 0.5 * normal(count, 1, 1), 0.5 * normal(count, 1, 1).abs()
    best, _, null_score = _scores(features)
    odds = (null_score - best)[_has_spans(features)].square().mean().sqrt().nan_to_num(1.0) / 2  # of a start or an end
    for column, name in enumerate(SCORES):
        scores = features[name].float().clamp(min=_LOWEST).masked_fill(~known, MASKED_SCORE)
        spread = (scores - _mean(scores, context))[context].std().nan_to_num(1.0)
        changed = _sharpened(scores, null, sharpness)
        changed = torch.where(null, scores + size * odds * shift, changed)
        changed += size * spread * (step * _gold(features, column))
        changed += (size * spread * loudness) * normal(count, windows, length)
        copies[name] = changed.clamp_(min=_LOWEST).flatten(0, 1)
    return copies


def require_spans(features: Features) -> None:
    """Raises ValueError if predictions lack what is needed to decode them again."""
    missing = [name for name in KEPT if name not in features]
    if missing:
        raise ValueError(
            f"the predictions hold no {missing}, so candidates of the same questions cannot be decoded: collect them "
            "again by collect_predictions, or learn another class, such as AnswersSurrogate"
        )


def _has_spans(features: Features) -> Tensor:
    """The windows with a span to choose, shape `(n,)`."""
    return (features["span_texts"][..., 0] > 0).any(1)


def _scores(features: Features) -> tuple[Tensor, Tensor, Tensor]:
    """The score of the best kept span, its place, and the score of the null position; `(n,)` each."""
    spans, is_span = features["spans"].clamp(min=0).long(), features["span_texts"][..., 0] > 0
    start, end = (features[name].clamp(min=_LOWEST) for name in SCORES)
    scores = start.gather(1, spans[..., 0]) + end.gather(1, spans[..., 1])
    best, place = scores.masked_fill(~is_span, MASKED_SCORE).max(1)
    null = sum(values.masked_fill(~features["null_mask"], MASKED_SCORE).amax(1) for values in (start, end))
    return best, place, null


def _sharpened(scores: Tensor, null: Tensor, sharpness: Tensor) -> Tensor:
    """The scores with another sharpness of all but the null position, whose probability stays the same; shape
    `(count, n, L)`."""
    others = scores.masked_fill(null, MASKED_SCORE)
    total = others.logsumexp(1, keepdim=True)
    sharper = sharpness * (others - total)
    return sharper - sharper.logsumexp(2, keepdim=True) + total


def _gold(features: Features, column: int) -> Tensor:
    """1 at the gold positions, or at the null position if there is no answer, 0 elsewhere; `(n, L)`."""
    gold, null = features["gold_spans"][..., column].long(), features["null_mask"]
    found = torch.zeros(null.shape).scatter(1, gold, 1.0)
    return torch.where(null & ~gold_is_null(features).unsqueeze(1), 0.0, found)


def _mean(scores: Tensor, context: Tensor) -> Tensor:
    """The mean of the scores in the context of each window, shape `(n, 1)`."""
    return scores.masked_fill(~context, 0.0).sum(1, keepdim=True) / context.sum(1, keepdim=True).clamp(min=1)
