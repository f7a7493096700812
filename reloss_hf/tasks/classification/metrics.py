"""The metrics of classifiers that need no download: scikit-learn's, under the names and arguments of `evaluate`."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import evaluate
from sklearn import metrics

from ..base import NamedMetric


class ClassificationMetric:
    """A function of scikit-learn that is called with predictions and references.

    Args:
        function: `(y_true, y_pred, **options)`.
        name: that it is known by.
        options: passed to it.
    """

    def __init__(self, function: Callable, name: str, **options: Any):
        self.function, self.name, self.options = function, name, options

    def __call__(self, predictions: list, references: list) -> Any:
        return self.function(references, predictions, **self.options)


def _named(function: Callable, name: str, **defaults: Any) -> NamedMetric:
    def load(**options: Any) -> ClassificationMetric:
        return ClassificationMetric(function, name, **defaults | options)

    accepted = signature(function)
    load.__signature__ = accepted.replace(parameters=list(accepted.parameters.values())[2:])
    return NamedMetric(load)


def takes_labels(metric: Any) -> bool:
    """Whether a metric of scikit-learn takes `labels=`, the set of classes: one by name, a function, or a module of
    `evaluate`."""
    if isinstance(metric, str):
        named = METRICS.get(metric)
        return named is not None and "labels" in named.load.__signature__.parameters
    function = metric.func if isinstance(metric, partial) else metric
    if isinstance(function, evaluate.EvaluationModule):
        return function.name in METRICS and "labels" in signature(function._compute).parameters
    from_sklearn = getattr(function, "__module__", "").startswith("sklearn.")
    return from_sklearn and "labels" in signature(function).parameters


_quiet = partial(_named, zero_division=0.0)  # the value of `evaluate`, without its warning

METRICS = {
    "accuracy": _named(metrics.accuracy_score, "accuracy"),
    "f1": _quiet(metrics.f1_score, "f1"),
    "precision": _quiet(metrics.precision_score, "precision"),
    "recall": _quiet(metrics.recall_score, "recall"),
    "matthews_correlation": _named(metrics.matthews_corrcoef, "matthews_correlation"),
    **{
        name: (_quiet if name in ("f1_score", "fbeta_score", "precision_score", "recall_score") else _named)(
            getattr(metrics, name), name
        )
        for name in (
            "accuracy_score",
            "balanced_accuracy_score",
            "cohen_kappa_score",
            "f1_score",
            "fbeta_score",
            "jaccard_score",
            "matthews_corrcoef",
            "precision_score",
            "recall_score",
        )
    },
}
