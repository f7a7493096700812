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

    If a question has no answer, the right prediction is `""`. Scores at the best threshold (`best_f1`, ...) are not
    computed.

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
            golds = [text for text in texts if normalize(text)] or [""]
            exact[name] = _best(exact_match, answers[name], golds)
            f1[name] = _best(_null_aware_f1, answers[name], golds)
    result = {"exact": _percent(exact.values()), "f1": _percent(f1.values()), "total": len(exact)}
    for prefix, wanted in (("HasAns", True), ("NoAns", False)):
        names = [name for name in exact if has_answer[name] is wanted]
        if names:
            result[f"{prefix}_exact"] = _percent([exact[name] for name in names])
            result[f"{prefix}_f1"] = _percent([f1[name] for name in names])
            result[f"{prefix}_total"] = len(names)
    return result


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
