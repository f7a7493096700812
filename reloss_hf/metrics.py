"""Metrics by name. Only this module knows which metrics each task offers without a download."""

import inspect
from collections.abc import Mapping
from typing import Any

import evaluate
from sacrebleu.metrics.base import Metric as SacreMetric

from .learning.calling import EvaluateMetric, LoadedMetric, check_options, signature_of, unwrapped
from .learning.metrics import LoadedGroupMetric
from .tasks import NamedMetric, named_metrics

MetricLike = LoadedMetric | str

_SEED = 0  # for modules that draw samples


class GroupMetric(LoadedGroupMetric):
    """Scores groups of examples with one metric; higher is better.

    Args:
        metric: an `evaluate` module, its `compute`, or the result of `evaluate.combine`; the name of a module, or the
            path of a metric script, for `evaluate.load`; a sacrebleu metric such as `BLEU(lowercase=True)`; or a
            function `(predictions, references) -> float`, or a `functools.partial` of one. A function may name its
            parameters `predictions`, `y_pred` or `hypothesis`, and `references`, `y_true` or `reference` (or the like).
            Such parameters are passed by name, so they may stand in any order. sacrebleu itself computes `"sacrebleu"`,
            `"chrf"` and `"ter"`, by name or as modules. It counts the statistics of each sentence once, and not once
            for each group. These names need no network, nor do `"squad"` and `"squad_v2"`.
        key: which number of the metric's result to use, such as `"rouge1.fmeasure"` in a nested result. You need it if
            the result has several numbers and none is named `score` or like the metric. The default for `squad` and
            `squad_v2` is `f1`. A list or an array counts as its mean.
        lower_is_better: whether to negate the score. None negates error rates: metrics, or numbers of a result, that
            are named `wer`, `cer` or `ter`, or whose name ends in `_error` or `_loss`.
        options: settings of the metric, such as `{"use_stemmer": True}`.

    Raises:
        ValueError: the metric cannot be loaded, it does not accept an option, or it is not clear how to call it.
    """

    def __init__(
        self,
        metric: MetricLike,
        key: str | None = None,
        lower_is_better: bool | None = None,
        options: Mapping[str, Any] | None = None,
    ):
        if not isinstance(options, Mapping | None):
            raise ValueError(f"metric_options={options!r} must be a dict, such as {{'lowercase': True}}")
        metric, own_options = unwrapped(metric)
        given = options = own_options | dict(options or {})
        name = metric.name if isinstance(metric, evaluate.EvaluationModule) else metric
        named = named_metrics().get(name) if isinstance(name, str) else None
        main_key = None
        if named is not None:
            main_key = named.main_key
            lower_is_better = named.lower_is_better if lower_is_better is None else lower_is_better
            if isinstance(metric, str) or named.replaces_module:
                metric, options = _load_named(name, named, options), {}
        super().__init__(_load(metric), key, lower_is_better, options, main_key)
        self.options = given


def _load_named(name: str, named: NamedMetric, options: Mapping[str, Any]) -> LoadedMetric:
    options = {named.options_of_module.get(option, option): value for option, value in options.items()}
    check_options(name, signature_of(named.load), options, ("predictions", "references"))
    return named.load(**options)


def _load(metric: MetricLike) -> LoadedMetric:
    if isinstance(metric, str):
        try:
            module = evaluate.load(metric)
        except Exception as error:
            raise ValueError(
                f"metric={metric!r} could not be loaded ({type(error).__name__}: {error}). If you are offline, pass "
                "the path of a metric script, a callable(predictions, references) -> float, or one of "
                f"{sorted(named_metrics())}, which need no download"
            ) from error
        module.seed = _SEED  # otherwise the module draws from NumPy's global state
        return module
    if inspect.isclass(metric):
        raise ValueError(f"metric={metric.__name__} is a class: pass an object of it, {metric.__name__}()")
    if not callable(metric) and not isinstance(metric, EvaluateMetric | SacreMetric):
        raise ValueError(
            f"metric={metric!r} must be an evaluate module, its name or path, a sacrebleu metric, or a callable"
        )
    return metric
