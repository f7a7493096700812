"""Metrics by name: the one place that knows what each task can score without a download."""

import inspect
from collections.abc import Mapping
from typing import Any

import evaluate
from sacrebleu.metrics.base import Metric as SacreMetric

from .learning.calling import EvaluateMetric, LoadedMetric, check_options, signature_of, unwrapped
from .learning.metrics import LoadedGroupMetric
from .tasks import NamedMetric, named_metrics

MetricLike = LoadedMetric | str

_SEED = 0  # of modules that draw samples


class GroupMetric(LoadedGroupMetric):
    """Scores groups of examples with one metric; higher is better.

    Args:
        metric: an `evaluate` module, its `compute`, or what `evaluate.combine` makes; the name of a module, or the path
            of a metric script, for `evaluate.load`; a sacrebleu metric such as `BLEU(lowercase=True)`; or a function
            `(predictions, references) -> float`, or a `functools.partial` of one. A parameter of a function that is
            called `predictions`, `y_pred` or `hypothesis`, or `references`, `y_true` or `reference` (or the like), is
            passed by its name, wherever it stands.
            `"sacrebleu"`, `"chrf"` and `"ter"`, by name or as modules, are computed by sacrebleu directly, from
            statistics counted once for each sentence instead of once for each group; they need no network, nor do
            `"squad"` and `"squad_v2"` by name.
        key: which number of the metric's result to use, such as `"rouge1.fmeasure"` in a nested one. Needed where the
            result has several and none is called `score` or as the metric is; of `squad` and `squad_v2` it is `f1`. Of
            a list or an array it is the mean.
        lower_is_better: whether the score is negated. None negates error rates: metrics, or numbers of a result, with a
            name such as `wer`, `cer` or `ter`, or one that ends in `_error` or `_loss`.
        options: settings of the metric, such as `{"use_stemmer": True}`.

    Raises:
        ValueError: the metric cannot be loaded, does not accept an option, or it is not clear how it is called.
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
                f"metric={metric!r} could not be loaded ({type(error).__name__}: {error}). Offline, pass the path of "
                f"a metric script, a callable(predictions, references) -> float, or one of {sorted(named_metrics())}, "
                "which need no download"
            ) from error
        module.seed = _SEED  # else NumPy's global state would be it
        return module
    if inspect.isclass(metric):
        raise ValueError(f"metric={metric.__name__} is a class: pass an object of it, {metric.__name__}()")
    if not callable(metric) and not isinstance(metric, EvaluateMetric | SacreMetric):
        raise ValueError(
            f"metric={metric!r} must be an evaluate module, its name or path, a sacrebleu metric, or a callable"
        )
    return metric
