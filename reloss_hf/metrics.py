"""Metrics by name: the one place that knows what each task can score without a download."""

import evaluate
from sacrebleu.metrics.base import Metric as SacreMetric

from .learning.metrics import LoadedGroupMetric, LoadedMetric
from .tasks import NamedMetric, named_metrics

MetricLike = LoadedMetric | str


class GroupMetric(LoadedGroupMetric):
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
        name = metric.name if isinstance(metric, evaluate.EvaluationModule) else metric
        named = named_metrics().get(name) if isinstance(name, str) else None
        super().__init__(_load(metric, named), key, lower_is_better, main_key=named and named.main_key)


def _load(metric: MetricLike, named: NamedMetric | None) -> LoadedMetric:
    if named is not None and (isinstance(metric, str) or named.replaces_module):
        return named.load()
    if isinstance(metric, str):
        try:
            return evaluate.load(metric)
        except Exception as error:
            raise ValueError(
                f"metric={metric!r} could not be loaded ({type(error).__name__}: {error}). Offline, pass the path of "
                f"a metric script, a callable(predictions, references) -> float, or one of {sorted(named_metrics())}, "
                "which need no download"
            ) from error
    if not callable(metric) and not isinstance(metric, evaluate.EvaluationModule | SacreMetric):
        raise ValueError(
            f"metric={metric!r} must be an evaluate module, its name or path, a sacrebleu metric, or a callable"
        )
    return metric
