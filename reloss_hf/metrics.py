"""Metrics scored on groups of examples, so that a metric which does not decompose is still the metric."""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import evaluate
import numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.base import Metric as SacreMetric

from .squad_scores import squad, squad_v2

MetricLike = evaluate.EvaluationModule | SacreMetric | str | Callable[[list, list], float]

# evaluate's modules of these names are thin wrappers of sacrebleu with these settings.
_SACREBLEU_MODULES = {"sacrebleu": BLEU, "chrf": CHRF, "ter": TER}
_SQUAD_MODULES = {"squad": squad, "squad_v2": squad_v2}
# The number that a metric is known for, where its name or "score" does not say so.
_MAIN_NUMBERS = {"squad": "f1", "squad_v2": "f1"}


class GroupMetric:
    """Scores groups of examples with one metric; higher is better.

    Args:
        metric: an `evaluate` module; the name of one, or the path of a metric script, for `evaluate.load`; a
            sacrebleu metric such as `BLEU(lowercase=True)`; or a function `(predictions, references) -> float`.
            `"sacrebleu"`, `"chrf"` and `"ter"`, by name or as modules, are computed by sacrebleu directly, from
            statistics counted once for each sentence instead of once for each group; they need no network, nor do
            `"squad"` and `"squad_v2"` by name.
        key: which number of the metric's result to use. Needed where the result has several and none is called
            `score` or as the metric is; of `squad` and `squad_v2` it is `f1`.
        lower_is_better: for error rates such as `ter` and `wer`; the score is negated.

    Raises:
        ValueError: the metric cannot be loaded, or its result has no number that `key` names, or several.
    """

    def __init__(self, metric: MetricLike, key: str | None = None, lower_is_better: bool = False):
        self.metric = _load(metric)
        self.key = key
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
        for name in ("score", self._metric_name, _MAIN_NUMBERS.get(self._metric_name)):
            if name in names:
                return name
        raise ValueError(f"the metric's result has several numbers, {names}: name one of them by metric_key=")


def _load(metric: MetricLike) -> evaluate.EvaluationModule | SacreMetric | Callable:
    name = metric.name if isinstance(metric, evaluate.EvaluationModule) else metric
    if isinstance(name, str) and name in _SACREBLEU_MODULES:
        # force: no warning about text that looks tokenised, of which early predictions are full
        return BLEU(force=True) if name == "sacrebleu" else _SACREBLEU_MODULES[name]()
    if isinstance(metric, str) and metric in _SQUAD_MODULES:
        return _SQUAD_MODULES[metric]
    if isinstance(metric, str):
        try:
            return evaluate.load(metric)
        except Exception as error:
            raise ValueError(
                f"metric={metric!r} could not be loaded ({type(error).__name__}: {error}). Offline, pass the path of "
                f"a metric script, a callable(predictions, references) -> float, or one of "
                f"{sorted(_SACREBLEU_MODULES | _SQUAD_MODULES)}, which need no download"
            ) from error
    if not callable(metric) and not isinstance(metric, evaluate.EvaluationModule | SacreMetric):
        raise ValueError(
            f"metric={metric!r} must be an evaluate module, its name or path, a sacrebleu metric, or a callable"
        )
    return metric


def _takes_reference_lists(module: evaluate.EvaluationModule) -> bool:
    """Whether a module has no schema in which a reference is a plain string."""
    schemas = module.features if isinstance(module.features, list) else [module.features]
    return not any(getattr(schema.get("references"), "dtype", None) == "string" for schema in schemas)
