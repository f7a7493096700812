"""Metrics scored on groups of examples, so that a metric which does not decompose is still the metric."""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import evaluate
import numpy as np
from sacrebleu.metrics.base import Metric as SacreMetric

LoadedMetric = evaluate.EvaluationModule | SacreMetric | Callable[[list, list], Any]


class LoadedGroupMetric:
    """Scores groups of examples with a metric that is loaded; higher is better. See `reloss_hf.GroupMetric`, which
    knows metrics by name, too.

    Args:
        metric: an `evaluate` module, a sacrebleu metric, or a function `(predictions, references) -> float`.
        key: which number of the metric's result to use; see `GroupMetric`.
        lower_is_better: for error rates; the score is negated.
        main_key: the number that the metric is known for: used where there is no `key`, and neither "score" nor the
            metric's name is one.
    """

    def __init__(
        self,
        metric: LoadedMetric,
        key: str | None = None,
        lower_is_better: bool = False,
        main_key: str | None = None,
    ):
        self.metric, self.key, self.main_key = metric, key, main_key
        self.sign = -1.0 if lower_is_better else 1.0

    @property
    def name(self) -> str:
        """The metric's name, for logs and model cards."""
        return f"{self._metric_name}:{self.key}" if self.key else self._metric_name.lower()

    @property
    def signature(self) -> str | None:
        """sacrebleu's signature, once something was scored; None of other metrics."""
        return str(self.metric.get_signature()) if isinstance(self.metric, SacreMetric) else None

    def __call__(self, predictions: Sequence, references: Sequence, groups: np.ndarray) -> np.ndarray:
        """The metric of every group.

        Args:
            predictions: one prediction for each example, in the metric's own format.
            references: one reference for each example, likewise; a string where the metric accepts lists too.
            groups: integers of shape `(groups, size)`, rows of `predictions`.

        Returns:
            float64, shape `(groups,)`; higher is better.

        Raises:
            RuntimeError: the metric raised, or gave NaN, on a group; the message names the group and its inputs.
        """
        score = self._sacrebleu_scorer if isinstance(self.metric, SacreMetric) else self._generic_scorer
        score_group = score(predictions, references)
        scores = np.empty(len(groups))
        for number, rows in enumerate(groups):
            try:
                scores[number] = score_group(rows)
            except Exception as error:
                raise RuntimeError(
                    f"metric {self.name!r} raised {type(error).__name__}: {error} — on group {number}: "
                    f"predictions={[predictions[row] for row in rows]!r}, "
                    f"references={[references[row] for row in rows]!r}"
                ) from error
        return self.sign * scores

    @property
    def _metric_name(self) -> str:
        name = getattr(self.metric, "name", None) or getattr(self.metric, "__name__", type(self.metric).__name__)
        return str(name)

    def _sacrebleu_scorer(self, predictions: Sequence[str], references: Sequence) -> Callable:
        width = max((1 if isinstance(reference, str) else len(reference) for reference in references), default=1)
        rows = [[reference] if isinstance(reference, str) else list(reference) for reference in references]
        streams = [[row[i] if i < len(row) else None for row in rows] for i in range(width)]
        statistics = np.array(self.metric._extract_corpus_statistics(list(predictions), streams), dtype=object)
        return lambda group: self.metric._aggregate_and_compute(statistics[group].tolist()).score

    def _generic_scorer(self, predictions: Sequence, references: Sequence) -> Callable:
        if not isinstance(self.metric, evaluate.EvaluationModule):
            compute = self.metric
        else:
            # `compute` writes an Arrow file for each call; `_compute` is the method that a module implements.
            wrap = _takes_reference_lists(self.metric)

            def compute(predictions, references):
                references = [[r] if wrap and isinstance(r, str) else r for r in references]
                return self.metric._compute(predictions=predictions, references=references)

        return lambda group: self._number(
            compute([predictions[row] for row in group], [references[row] for row in group])
        )

    def _number(self, result: Any) -> float:
        if isinstance(result, dict):
            result = result[self._result_key(result)]
        if not isinstance(result, numbers.Real | np.ndarray) or np.size(result) != 1:
            raise ValueError(f"the metric gave {result!r} instead of a number")
        if not math.isfinite(result):
            raise ValueError(f"the metric gave {float(result)}")
        return float(result)

    def _result_key(self, result: dict) -> str:
        names = [name for name, value in result.items() if isinstance(value, numbers.Real)]
        if self.key is not None:
            if self.key not in names:
                raise ValueError(f"metric_key={self.key!r} is not in the metric's result; pass one of {names}")
            return self.key
        if len(names) == 1:
            return names[0]
        for name in ("score", self._metric_name, self.main_key):
            if name in names:
                return name
        raise ValueError(f"the metric's result has several numbers, {names}: name one of them by metric_key=")


def _takes_reference_lists(module: evaluate.EvaluationModule) -> bool:
    """Whether a module has no schema in which a reference is a plain string."""
    schemas = module.features if isinstance(module.features, list) else [module.features]
    return not any(getattr(schema.get("references"), "dtype", None) == "string" for schema in schemas)
