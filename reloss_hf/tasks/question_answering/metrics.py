"""The metrics of questions that need no download: SQuAD's, with the options, defaults and results of `evaluate`. The
scores at the best threshold are missing, because they do not depend on when a model abstains."""

from functools import lru_cache
from typing import Any

import numpy as np

from ...learning.calling import VectorisedMetric
from ..base import NamedMetric
from .abstention import AbstentionCosts
from .scores import squad, squad_v2, squad_v2_scores

_REMEMBERED = 200_000


class SquadV2Metric(VectorisedMetric):
    """SQuAD 2.0's exact match and F1, 0 to 100, of all questions and of those with (`HasAns_`) and without (`NoAns_`)
    an answer. If a question has no answer, the right prediction is `""`.

    Args:
        no_answer_threshold: a prediction whose `no_answer_probability` is above this counts as no answer. With 1, only
            `""` does.
    """

    name = "squad_v2"

    def __init__(self, no_answer_threshold: float = 1.0):
        self.no_answer_threshold = no_answer_threshold

    def __call__(self, predictions: list[dict], references: list[dict]) -> dict[str, float]:
        return squad_v2([self._abstaining(row) for row in predictions], references)

    def scores(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, np.ndarray] | None:
        """Each row counts, also if an id occurs twice. None if a prediction has another id than its reference."""
        predicted, gold = predictions.ravel().tolist(), references.ravel().tolist()
        if any(left["id"] != right["id"] for left, right in zip(predicted, gold, strict=True)):
            return None
        golds = [tuple(row["answers"]["text"]) for row in gold]
        pairs = zip(predicted, golds, strict=True)
        scores = np.array([_scores(self._abstaining(row)["prediction_text"], texts) for row, texts in pairs])
        exact, f1 = (100 * scores[:, column].reshape(predictions.shape) for column in (0, 1))
        has_answer = np.array([len(texts) > 0 for texts in golds]).reshape(predictions.shape)
        found = {"exact": exact.mean(1), "f1": f1.mean(1), "total": np.full(len(exact), exact.shape[1])}
        for prefix, chosen in (("HasAns", has_answer), ("NoAns", ~has_answer)):
            counts = chosen.sum(1)
            for name, values in (("exact", exact), ("f1", f1)):
                sums = np.where(chosen, values, 0).sum(1)
                found[f"{prefix}_{name}"] = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
            found[f"{prefix}_total"] = np.where(counts > 0, counts, np.nan)
        return found

    def _abstaining(self, prediction: dict[str, Any]) -> dict[str, Any]:
        abstains = prediction.get("no_answer_probability", 0.0) > self.no_answer_threshold
        return prediction | {"prediction_text": ""} if abstains else prediction


# The same few answers to a question occur in most candidates.
_scores = lru_cache(_REMEMBERED)(squad_v2_scores)

METRICS = {
    "squad": NamedMetric(lambda: squad, main_key="f1"),
    "squad_v2": NamedMetric(SquadV2Metric, main_key="f1", replaces_module=True, surrogate=AbstentionCosts),
}
