"""SQuAD's exact match and F1, versions 1.1 and 2.0: the numbers of `evaluate`'s `squad` and `squad_v2`, offline.

Source: Rajpurkar et al., *SQuAD*, EMNLP 2016, and *Know What You Don't Know*, ACL 2018, with their scoring rules: text
is lowercased, stripped of ASCII punctuation and of the articles a, an, the; F1 compares the bags of words; the best
of several gold answers counts.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(predictions: Sequence[dict[str, Any]], references: Sequence[dict[str, Any]]) -> dict[str, float]:
    """SQuAD 1.1: `{"exact_match": ..., "f1": ...}`, 0 to 100.

    Args:
        predictions: `{"id": ..., "prediction_text": ...}`, in any order.
        references: `{"id": ..., "answers": {"text": [...], ...}}`; a reference without a prediction scores 0.

    Raises:
        ValueError: a reference has no answer, as in SQuAD 2.0.
    """
    answers = {prediction["id"]: prediction["prediction_text"] for prediction in predictions}
    exact, f1 = [], []
    for reference in references:
        golds = reference["answers"]["text"]
        if not len(golds):
            raise ValueError(f"reference {reference['id']!r} has no answer, which 'squad' cannot score: use 'squad_v2'")
        answer = answers.get(reference["id"])
        exact.append(answer is not None and _best(exact_match, answer, golds))
        f1.append(0.0 if answer is None else _best(token_f1, answer, golds))
    return {"exact_match": _percent(exact), "f1": _percent(f1)}


def squad_v2(predictions: Sequence[dict[str, Any]], references: Sequence[dict[str, Any]]) -> dict[str, float]:
    """SQuAD 2.0: `exact`, `f1` and `total`, also for questions with (`HasAns_`) and without (`NoAns_`) answers alone.

    If a question has no answer, the right prediction is `""`. For scores at the best threshold see `best_thresholds`.

    Args:
        predictions: as for `squad`; `no_answer_probability` is ignored.
        references: as for `squad`; `{"text": []}` for a question without an answer.
    """
    answers = {prediction["id"]: prediction["prediction_text"] for prediction in predictions}
    exact, f1, has_answer = {}, {}, {}
    for reference in references:
        name, texts = reference["id"], reference["answers"]["text"]
        has_answer[name] = len(texts) > 0
        if name in answers:
            exact[name], f1[name] = squad_v2_scores(answers[name], texts)
    result = {"exact": _percent(exact.values()), "f1": _percent(f1.values()), "total": len(exact)}
    for prefix, wanted in (("HasAns", True), ("NoAns", False)):
        names = [name for name in exact if has_answer[name] is wanted]
        if names:
            result[f"{prefix}_exact"] = _percent([exact[name] for name in names])
            result[f"{prefix}_f1"] = _percent([f1[name] for name in names])
            result[f"{prefix}_total"] = len(names)
    return result


def squad_v2_scores(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """The exact match and the F1 of one answer, 0 to 1. Without gold answers, the right one is `""`."""
    golds = [text for text in golds if normalize(text)] or [""]
    return float(_best(exact_match, prediction, golds)), _best(_null_aware_f1, prediction, golds)


def best_thresholds(
    answers: Sequence[str], null_odds: Sequence[float], golds: Sequence[Sequence[str]]
) -> dict[str, float]:
    """The highest scores that a threshold of the null odds reaches, and the thresholds: `best_exact`,
    `best_exact_thresh`, `best_f1` and `best_f1_thresh`, as in the official script of SQuAD 2.0.

    Args:
        answers: the best answer to each question that is not `""`.
        null_odds: the score of the null answer minus that of this answer. The null answer is given if the odds exceed
            the threshold.
        golds: the gold answers of each question; none if it has no answer.
    """
    odds = np.asarray(null_odds, dtype=float)
    if not len(odds):
        return {}
    order = odds.argsort(kind="stable")
    # The threshold below all odds, then those at which one more question is answered. Equal odds are answered together.
    thresholds = np.concatenate([[odds.min() - 1], odds[order]])
    reached = np.append(thresholds[1:] > thresholds[:-1], True)
    answered = np.array([squad_v2_scores(*pair) for pair in zip(answers, golds, strict=True)])
    abstained = np.array([[float(not len(texts))] * 2 for texts in golds])
    totals = abstained.sum(0) + np.concatenate([np.zeros((1, 2)), (answered - abstained)[order].cumsum(0)])
    found = {}
    for name, scores in zip(("exact", "f1"), totals.T, strict=True):
        best = int(np.where(reached, scores, -np.inf).argmax())
        found |= {f"best_{name}": 100 * float(scores[best]) / len(odds), f"best_{name}_thresh": float(thresholds[best])}
    return found


def normalize(text: str) -> str:
    """The text without the parts that the scores ignore."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> bool:
    """Whether both texts are the same after normalisation."""
    return normalize(prediction) == normalize(gold)


def token_f1(prediction: str, gold: str) -> float:
    """F1 of the bags of words, 0 to 1; 0 if they share no word."""
    words, gold_words = normalize(prediction).split(), normalize(gold).split()
    same = sum((Counter(words) & Counter(gold_words)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(words), same / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def _null_aware_f1(prediction: str, gold: str) -> float:
    if not normalize(prediction) or not normalize(gold):
        return float(exact_match(prediction, gold))
    return token_f1(prediction, gold)


def _best(score: Callable[[str, str], float], prediction: str, golds: Sequence[str]) -> float:
    return max(score(prediction, gold) for gold in golds)


def _percent(scores) -> float:
    scores = list(scores)
    return 100.0 * sum(scores) / len(scores)
