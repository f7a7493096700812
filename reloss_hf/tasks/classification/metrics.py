"""The metrics of classifiers that need no download: scikit-learn's, under the names and arguments of `evaluate`."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import evaluate
import numpy as np
from sklearn import metrics

from ...learning.calling import VectorisedMetric
from ..base import NamedMetric

# The numerator and the denominator of a score, from the counts of hits, of false alarms and of misses.
_RATIOS = {
    "f1_score": lambda beta, hits, wrong, missed: (2 * hits, 2 * hits + wrong + missed),
    "fbeta_score": lambda beta, hits, wrong, missed: (
        (1 + beta**2) * hits,
        (1 + beta**2) * hits + wrong + beta**2 * missed,
    ),
    "precision_score": lambda beta, hits, wrong, missed: (hits, hits + wrong),
    "recall_score": lambda beta, hits, wrong, missed: (hits, hits + missed),
    "jaccard_score": lambda beta, hits, wrong, missed: (hits, hits + wrong + missed),
}
_AVERAGES = ("binary", "micro", "macro", "weighted", "samples")


class ClassificationMetric(VectorisedMetric):
    """A function of scikit-learn that is called with predictions and references.

    Args:
        function: called as `(y_true, y_pred, **options)`.
        name: the name of the metric.
        options: keywords for the function.
    """

    def __init__(self, function: Callable, name: str, **options: Any):
        self.function, self.name, self.options = function, name, options

    def __call__(self, predictions: list, references: list) -> Any:
        if any(isinstance(row, list) and row and isinstance(row[0], str) for row in references):
            raise ValueError(
                f"{self.name!r} compares classes, not lists of tags: for tags pass metric='seqeval', with "
                "metric_key='overall_accuracy' for the share of right tags"
            )
        return self.function(references, predictions, **self.options)

    def scores(self, predictions: np.ndarray, references: np.ndarray) -> np.ndarray | None:
        """Scores from counts, because scikit-learn needs milliseconds a group."""
        function, options = self.function.__name__, self.options
        if predictions.dtype == object:
            return None
        if set(options) - {"zero_division", "average", "labels", "beta", "pos_label"}:
            return None
        if function == "accuracy_score":
            right = predictions == references
            return (right if right.ndim == 2 else right.all(-1)).mean(1)
        if function == "matthews_corrcoef" and predictions.ndim == 2:
            return _matthews_correlations(predictions, references)
        average = options.get("average", "binary")
        if function not in _RATIOS or average not in _AVERAGES:
            return None
        if predictions.ndim == 2:
            classes, found = options.get("labels"), np.union1d(predictions, references)
            if average == "binary" and len(found) <= 2:
                classes = [options.get("pos_label", 1)]
            if classes is None or average == "samples":
                return None
            predictions, references = (values[..., None] == np.asarray(classes) for values in (predictions, references))
        elif average == "binary":
            return None
        return _averaged(partial(_RATIOS[function], options.get("beta", 1.0)), predictions, references, average)


def takes_labels(metric: Any) -> bool:
    """Whether a metric of scikit-learn takes `labels=`, the set of classes. The metric is a name, a function, or a
    module of `evaluate`."""
    if isinstance(metric, str):
        named = METRICS.get(metric)
        return named is not None and "labels" in named.load.__signature__.parameters
    function = metric.func if isinstance(metric, partial) else metric
    if isinstance(function, evaluate.EvaluationModule):
        return function.name in METRICS and "labels" in signature(function._compute).parameters
    from_sklearn = getattr(function, "__module__", "").startswith("sklearn.")
    return from_sklearn and "labels" in signature(function).parameters


def _averaged(ratio: Callable, predictions: np.ndarray, references: np.ndarray, average: str) -> np.ndarray:
    """A score of groups, from 0/1 of shape `(groups, size, labels)`; 0 if a ratio divides by 0."""
    predicted, gold = predictions.astype(bool), references.astype(bool)
    axis = 2 if average == "samples" else 1
    hits, wrong, missed = (found.sum(axis) for found in (predicted & gold, predicted & ~gold, ~predicted & gold))
    if average == "micro":
        hits, wrong, missed = (counts.sum(1, keepdims=True) for counts in (hits, wrong, missed))
    part, whole = ratio(hits, wrong, missed)
    scores = np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0)
    if average != "weighted":
        return scores.mean(1)
    return (scores * (hits + missed)).sum(1) / np.maximum((hits + missed).sum(1), 1)


def _matthews_correlations(predictions: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Matthews correlation of groups of classes, shape `(groups, size)`. It is 0 if all predictions, or all references,
    are one class."""
    classes = np.union1d(predictions, references)
    predicted, gold = ((values[..., None] == classes).sum(1) for values in (predictions, references))
    size, right = predictions.shape[1], (predictions == references).sum(1)
    spreads = [size**2 - (counts**2).sum(1) for counts in (predicted, gold)]
    scale = np.sqrt(spreads[0].astype(float) * spreads[1])
    return np.divide(right * size - (predicted * gold).sum(1), scale, out=np.zeros(len(scale)), where=scale > 0)


def _named(function: Callable, name: str, **defaults: Any) -> NamedMetric:
    def load(**options: Any) -> ClassificationMetric:
        return ClassificationMetric(function, name, **defaults | options)

    accepted = signature(function)
    load.__signature__ = accepted.replace(parameters=list(accepted.parameters.values())[2:])
    return NamedMetric(load)


_quiet = partial(_named, zero_division=0.0)  # the value of `evaluate`, without its warning

METRICS = {
    "accuracy": _named(metrics.accuracy_score, "accuracy"),
    "f1": _quiet(metrics.f1_score, "f1"),
    "precision": _quiet(metrics.precision_score, "precision"),
    "recall": _quiet(metrics.recall_score, "recall"),
    "matthews_correlation": _named(metrics.matthews_corrcoef, "matthews_correlation"),
    "accuracy_score": _named(metrics.accuracy_score, "accuracy_score"),
    "balanced_accuracy_score": _named(metrics.balanced_accuracy_score, "balanced_accuracy_score"),
    "cohen_kappa_score": _named(metrics.cohen_kappa_score, "cohen_kappa_score"),
    "f1_score": _quiet(metrics.f1_score, "f1_score"),
    "fbeta_score": _quiet(metrics.fbeta_score, "fbeta_score"),
    "jaccard_score": _quiet(metrics.jaccard_score, "jaccard_score"),
    "matthews_corrcoef": _named(metrics.matthews_corrcoef, "matthews_corrcoef"),
    "precision_score": _quiet(metrics.precision_score, "precision_score"),
    "recall_score": _quiet(metrics.recall_score, "recall_score"),
}
