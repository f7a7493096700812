"""Answers from the logits of an extractive question-answering model, and their score."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import numpy as np
from transformers import EvalPrediction

from .scores import best_thresholds, squad, squad_v2
from .spans import MAX_ANSWER_LENGTH

_SCORES = {"squad": squad, "squad_v2": squad_v2}


@dataclass
class Answer:
    """The answer of a model to one question.

    Attributes:
        id: the id of the example.
        text: the answer, a piece of the context; `""` for no answer.
        n_best: the best answers, the best first: `text`, `start_logit`, `end_logit` and `probability`, a softmax over
            this list.
        null_odds: the score of the null answer minus the score of the best other one; None if there is no null answer.
        best_text: the best answer that is not `""`.
    """

    id: str
    text: str
    n_best: list[dict[str, Any]]
    null_odds: float | None = None
    best_text: str = ""


def answers_from_logits(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    features: datasets.Dataset,
    examples: datasets.Dataset,
    *,
    n_best: int = 20,
    max_answer_length: int = MAX_ANSWER_LENGTH,
    null_threshold: float | None = None,
) -> list[Answer]:
    """The best answer to each question over all its windows, by the rules of the official SQuAD systems.

    Each window combines its `n_best` highest starts and ends. The `n_best` highest sums of all windows are kept.

    Args:
        start_logits: shape `(windows, L)`, in the order of `features`; `L` is at least the length of each window.
        end_logits: shape `(windows, L)`, in the same order.
        features: the result of `prepare_features`.
        examples: the examples that `prepare_features` was given.
        n_best: how many starts, ends and answers to look at.
        max_answer_length: the longest answer, in tokens.
        null_threshold: None if every question has an answer. Otherwise the null answer is given if its score, the
            lowest over the windows, exceeds the score of the best other answer by more than this.

    Returns:
        An answer for each example that has windows, in the order of `examples`. If no window holds a valid span, the
        text is `"empty"`, as in the official systems.

    Raises:
        ValueError: the numbers of rows of logits and of windows differ, or `examples` lacks the example of a window.
    """
    if not len(start_logits) == len(end_logits) == len(features):
        raise ValueError(
            f"start_logits has {len(start_logits)} rows and end_logits {len(end_logits)}, but there are "
            f"{len(features)} windows: pass the features that the model predicted, in their order"
        )
    windows = defaultdict(list)
    for row, name in enumerate(features["example_id"]):
        windows[name].append(row)
    unknown = set(windows) - set(examples["id"])
    if unknown:
        raise ValueError(
            f"examples lacks {len(unknown)} ids of features, such as {sorted(unknown)[:3]}: pass the examples that "
            "features were made from"
        )
    answers = []
    for name, context in zip(examples["id"], examples["context"], strict=True):
        if name not in windows:
            continue
        spans, null = _Spans.empty(), None
        for row in windows[name]:
            feature, logits = features[row], (np.asarray(start_logits[row]), np.asarray(end_logits[row]))
            spans = spans.join(_best_pairs(*logits, feature["offset_mapping"], n_best, max_answer_length))
            null_here = tuple(values[feature["null_position"]] for values in logits)
            null = null_here if null is None or sum(null_here) < sum(null) else null
        answers.append(_answer(name, context, spans, null, n_best, null_threshold))
    return answers


def squad_compute_metrics(
    examples: datasets.Dataset,
    features: datasets.Dataset,
    metric: str | evaluate.EvaluationModule = "squad",
    null_threshold: float = 0.0,
    n_best: int = 20,
    max_answer_length: int = MAX_ANSWER_LENGTH,
) -> Callable[[EvalPrediction], dict[str, float]]:
    """A `compute_metrics` for the Trainer: the metric of the answers to all questions.

    For `squad_v2` there are also the best scores that a `null_threshold` reaches, and these thresholds: `best_exact`,
    `best_exact_thresh`, `best_f1` and `best_f1_thresh`. Choose a threshold on other questions than you report.

    Args:
        examples: the evaluated questions.
        features: the result of `prepare_features` for them, the Trainer's `eval_dataset`.
        metric: `"squad"`, `"squad_v2"`, or the `evaluate` module of that name. Only `squad_v2` has null answers.
        null_threshold: see `answers_from_logits`.
        n_best: see `answers_from_logits`.
        max_answer_length: see `answers_from_logits`.

    Raises:
        ValueError: `metric` is `squad` and some questions have no answer. The returned function raises it if the
            predictions are not those of `features`, in their order.
    """
    if isinstance(metric, str) and metric not in _SCORES:
        metric = evaluate.load(metric)
    name = metric if isinstance(metric, str) else metric.name
    has_null = name == "squad_v2"
    if not has_null:
        unanswered = [row["id"] for row in examples.select_columns(["id", "answers"]) if not row["answers"]["text"]]
        if unanswered:
            raise ValueError(
                f"metric={name!r} cannot score the {len(unanswered)} questions without an answer, such as "
                f"{unanswered[:3]}: pass metric='squad_v2'"
            )
    compute = _SCORES[metric] if isinstance(metric, str) else metric.compute
    answered = set(features["example_id"])
    references = [
        {"id": row["id"], "answers": row["answers"]}
        for row in examples.select_columns(["id", "answers"])
        if row["id"] in answered
    ]

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        _require_order(prediction, features)
        answers = answers_from_logits(
            *prediction.predictions[:2],
            features,
            examples,
            n_best=n_best,
            max_answer_length=max_answer_length,
            null_threshold=null_threshold if has_null else None,
        )
        predictions = [{"id": answer.id, "prediction_text": answer.text} for answer in answers]
        if not has_null:
            return compute(predictions=predictions, references=references)
        # No probability exceeds the threshold of `evaluate`, which is 1. So an empty text says that there is no answer.
        predictions = [row | {"no_answer_probability": 0.0} for row in predictions]
        found = compute(predictions=predictions, references=references)
        pairs = [(answer.best_text, answer.null_odds) for answer in answers]
        golds = [row["answers"]["text"] for row in references]
        return found | best_thresholds(*zip(*pairs, strict=True), golds)

    return compute_metrics


def _require_order(prediction: EvalPrediction, features: datasets.Dataset) -> None:
    if not isinstance(prediction.label_ids, tuple):
        return
    for name, labels in zip(("start_positions", "end_positions"), prediction.label_ids, strict=False):
        if not np.array_equal(labels, features[name]):
            raise ValueError(
                f"the predictions' labels are not the {name} of features: evaluate these features, and do not group "
                "them by length, because that changes the order of evaluation too"
            )


@dataclass
class _Spans:
    """Candidate answers: their characters, `(m, 2)`, and the logits of their start and end, `(m, 2)`."""

    characters: np.ndarray
    logits: np.ndarray

    @classmethod
    def empty(cls) -> "_Spans":
        return cls(np.zeros((0, 2), dtype=int), np.zeros((0, 2), dtype=np.float32))

    def join(self, other: "_Spans") -> "_Spans":
        return _Spans(np.concatenate([self.characters, other.characters]), np.concatenate([self.logits, other.logits]))


def _best_pairs(start: np.ndarray, end: np.ndarray, mapping: list, n_best: int, max_answer_length: int) -> _Spans:
    """The valid pairs of the highest starts and ends of a window, ordered by start, then by end."""
    starts, ends = (np.argsort(logits, kind="stable")[::-1][:n_best] for logits in (start, end))
    first, last = (pairs.ravel() for pairs in np.meshgrid(starts, ends, indexing="ij"))
    characters = np.full((len(start), 2), -1)
    for place, pair in enumerate(mapping):
        if pair is not None:
            characters[place] = pair
    valid = (characters[first, 0] >= 0) & (characters[last, 0] >= 0)
    valid &= (first <= last) & (last - first < max_answer_length)
    first, last = first[valid], last[valid]
    return _Spans(
        np.stack([characters[first, 0], characters[last, 1]], axis=1), np.stack([start[first], end[last]], axis=1)
    )


def _answer(name: str, context: str, spans: _Spans, null: tuple, n_best: int, null_threshold: float | None) -> Answer:
    scores = spans.logits.sum(1)
    order = np.argsort(-scores, kind="stable")
    ranked = [
        {"text": context[a:b], "start_logit": float(start), "end_logit": float(end), "score": float(score)}
        for (a, b), (start, end), score in zip(
            spans.characters[order[:n_best]], spans.logits[order[:n_best]], scores[order[:n_best]], strict=True
        )
    ]
    null_odds = None
    best = next((row for row in ranked if row["text"]), None)
    if best is None:
        best = {"text": "empty", "start_logit": 0.0, "end_logit": 0.0, "score": 0.0}
        ranked.insert(0, best)
    best_text = best["text"]
    text = best_text if null_threshold is not None else ranked[0]["text"]
    if null_threshold is not None:
        null_score = float(null[0] + null[1])
        null_odds = null_score - best["score"]
        entry = {"text": "", "start_logit": float(null[0]), "end_logit": float(null[1]), "score": null_score}
        ranked = sorted([*ranked, entry], key=lambda row: -row["score"])
        ranked = ranked[:n_best] if entry in ranked[:n_best] else [*ranked[:n_best], entry]
        text = "" if null_odds > null_threshold else text
    weights = np.exp(np.array([row["score"] for row in ranked]) - max(row["score"] for row in ranked))
    for row, probability in zip(ranked, weights / weights.sum(), strict=True):
        del row["score"]
        row["probability"] = float(probability)
    return Answer(name, text, ranked, null_odds, best_text)
