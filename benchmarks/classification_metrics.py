"""Metrics that classifiers are judged by in the benchmark, and decisions tuned on validation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn import metrics
from torch import Tensor


@dataclass
class Judge:
    """A metric: what a trainer is told of it, and what it is on predictions.

    Attributes:
        metric: for `metric=` of a trainer.
        options: for `metric_options=`.
        function: of scikit-learn, `(references, predictions, **options) -> float`; None where `metric` is a callable.
        soft_f1: the average of the soft F1 that is its hand-made rival; None where it has none.
    """

    metric: Any
    options: dict[str, Any] = field(default_factory=dict)
    function: Callable | None = None
    soft_f1: str | None = None

    def __call__(self, predictions: np.ndarray, references: np.ndarray) -> float:
        """Times 100."""
        if self.function is None:
            return 100 * self.metric(predictions, references)
        quiet = {} if self.function in (metrics.accuracy_score, metrics.matthews_corrcoef) else {"zero_division": 0}
        return 100 * float(self.function(references, predictions, **self.options, **quiet))


def hits_and_alarms(predictions: Any, references: Any) -> float:
    """A score of one's own: 1 for each right label, minus a quarter for each wrong one, as a share of the gold ones."""
    predictions, references = np.asarray(predictions), np.asarray(references)
    hits = (predictions * references).sum()
    return float((hits - 0.25 * (predictions.sum() - hits)) / max(1, references.sum()))


def _f(average: str, beta: float = 1.0, soft_f1: str | None = None) -> Judge:
    if beta == 1:
        return Judge("f1", {"average": average}, metrics.f1_score, soft_f1)
    return Judge("fbeta_score", {"average": average, "beta": beta}, metrics.fbeta_score)


_ACCURACY = Judge("accuracy", function=metrics.accuracy_score)
_MACRO_F1 = _f("macro", soft_f1="macro")
OWN = "hit +1, false alarm -1/4"
# Of each data set, the first decides when the warm start ends.
JUDGES: dict[str, dict[str, Judge]] = {
    "go_emotions": {
        "macro F1": _MACRO_F1,
        "micro F1": _f("micro", soft_f1="micro"),
        "F1 by example": _f("samples"),
        "macro F2": _f("macro", beta=2.0),
        OWN: Judge(hits_and_alarms),
        "macro F0.5": _f("macro", beta=0.5),
        "exact match": _ACCURACY,
    },
    "tweet_eval_emoji": {"macro F1": _MACRO_F1},
    "tweet_eval_offensive": {"macro F1": _MACRO_F1},
    "tweet_eval_irony": {
        "F1 of irony": Judge("f1", {"pos_label": 0}, metrics.f1_score, soft_f1="macro")
    },  # names are sorted
    "clothing": {"macro F1": _MACRO_F1, "accuracy": _ACCURACY},
    "cola": {"MCC": Judge("matthews_correlation", function=metrics.matthews_corrcoef)},
}


def decide(logits: Tensor, several: bool) -> np.ndarray:
    return (logits > 0).long().numpy() if several else logits.argmax(-1).numpy()


def tuned_shift(logits: Tensor, references: np.ndarray, judge: Judge, several: bool, passes: int = 2) -> Tensor:
    """What to add to the logits of each class so that decisions are the best on these examples: one shift for all
    labels at first, then class by class, on a grid. The thresholds of labels, and the offsets of classes."""
    classes = logits.shape[1]
    shift = torch.zeros(classes)

    def best(candidates: list[Tensor]) -> Tensor:
        return max(candidates, key=lambda shift: judge(decide(logits + shift, several), references))

    if several:
        shift = best([torch.full((classes,), value) for value in np.linspace(-0.5, 2.5, 13)])
    grid = np.concatenate([[0.0], np.linspace(-1.5, 1.5, 9)])
    for number in range(passes):
        for label in range(classes):
            steps = torch.zeros(len(grid), classes)
            steps[:, label] = torch.from_numpy(grid / (1 + number)).float()
            shift = best(list(shift + steps))
    return shift
