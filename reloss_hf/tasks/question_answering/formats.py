"""Predictions and references in the format of the `squad` metrics."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from ...learning.predictions import Predictions
from ...surrogate import Features
from .windows import span_texts


def predictions_of(
    features: Features, predicted: Tensor, input_ids: Tensor, candidate: int, tokenizer: Any
) -> Predictions:
    """The predictions of windows, each a question of its own.

    Args:
        features: the features of the losses.
        predicted: the predicted spans, shape `(n, 2)`; the null position for no answer.
        input_ids: the tokens of the windows, shape `(n, L)`.
        candidate: the number of the candidate.
        tokenizer: decodes the spans.
    """
    null = features["null_mask"].int().argmax(1)
    null_probabilities = (features["start_log_probs"] + features["end_log_probs"]).gather(1, null[:, None]).exp()
    ids = input_ids.tolist()
    golds, nulls = features["gold_spans"].tolist(), null.tolist()
    names = [_window_id(tokens, spans[0], tokenizer.pad_token_id) for tokens, spans in zip(ids, golds, strict=True)]
    predicted = [[] if span[0] == null else span for span, null in zip(predicted.tolist(), nulls, strict=True)]
    answers = [
        sorted({tuple(span) for span in spans if span[0] != null}) for spans, null in zip(golds, nulls, strict=True)
    ]
    rows = zip(names, span_texts(tokenizer, ids, predicted), null_probabilities.squeeze(1).tolist(), strict=True)
    return Predictions(
        {name: value.detach().cpu() for name, value in features.items()},
        [as_prediction(*row) for row in rows],
        [
            as_reference(name, span_texts(tokenizer, [window] * len(spans), spans), [start for start, _ in spans])
            for name, window, spans in zip(names, ids, answers, strict=True)
        ],
        torch.full((len(ids),), candidate),
    )


def as_prediction(name: str, text: str, no_answer_probability: float = 0.0) -> dict[str, Any]:
    return {"id": name, "prediction_text": text, "no_answer_probability": no_answer_probability}


def as_reference(name: str, texts: list[str], starts: list[int]) -> dict[str, Any]:
    return {"id": name, "answers": {"text": texts, "answer_start": starts}}


def _window_id(tokens: list[int], gold: list[int], padding: int | None) -> str:
    first = next((place for place, token in enumerate(tokens) if token != padding), 0)
    content = [token for token in tokens if token != padding], gold[0] - first, gold[1] - first
    return hashlib.sha1(repr(content).encode()).hexdigest()[:16]
