"""The learners that users call, which take metrics and classes of surrogates by name, and the learner of a task."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .learning import candidates
from .learning.learner import Learner
from .learning.metrics import LoadedGroupMetric
from .learning.predictions import Predictions
from .metrics import GroupMetric, MetricLike
from .report import LearningReport
from .surrogate import CountedLoss, SurrogateLoss, surrogate_class
from .tasks import CandidateTask, Task, task_named


class SurrogateLearner(Learner):
    __doc__ = """Learns a surrogate loss outside any Trainer.

    Example:
        >>> learner = SurrogateLearner("sacrebleu", surrogate="NgramSurrogate")
        >>> report = learner.learn("out/predictions")
        >>> learner.surrogate.save_pretrained("out/surrogate")

    `metric` is a `GroupMetric`, or anything that `GroupMetric` takes. `surrogate` may be the name of a class.

    """ + (Learner.__doc__ or "")

    def __init__(
        self,
        metric: LoadedGroupMetric | MetricLike,
        surrogate: SurrogateLoss | str = "NgramSurrogate",
        *,
        seed: int = 0,
        **settings: Any,
    ):
        if not isinstance(metric, LoadedGroupMetric):
            metric = GroupMetric(metric)
        if isinstance(surrogate, str):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                surrogate = surrogate_class(surrogate)()
        super().__init__(metric, surrogate, seed=seed, **settings)


class CandidateLearner(candidates.CandidateLearner):
    __doc__ = """Learns a loss for a model of classes, tags or pixels, or for a reader that may abstain, outside any
    Trainer, from its predictions.

    Example:
        >>> learner = CandidateLearner("f1", metric_options={"average": "macro"})
        >>> report = learner.learn("out/predictions")
        >>> learner.surrogate.costs  # the cost of a miss and of a false alarm of each class

    `metric` is a `GroupMetric`, or anything that `GroupMetric` takes. `metric_options` are its settings. If the metric
    averages over classes, `learn` adds all classes to them. `surrogate` is the name of a class and replaces
    `new_surrogate`, `perturbed` and `decode`: `"TagCosts"` for tags, `"PixelCosts"` for pixels, `"AbstentionCosts"` for
    questions.

    """ + (candidates.CandidateLearner.__doc__ or "")

    def __init__(
        self,
        metric: LoadedGroupMetric | MetricLike,
        surrogate: str = "ClassCosts",
        *,
        metric_options: Mapping[str, Any] | None = None,
        group_size: int | None = None,
        **settings: Any,
    ):
        cls = surrogate_class(surrogate)
        self.task = task_named(cls.task)
        learns = issubclass(cls, CountedLoss) and cls not in self.task.hand_made
        if not self.task.learns_from_candidates(cls) or not learns:
            raise ValueError(
                f"surrogate {surrogate!r} cannot be learned from candidates of the same examples: pass an object to "
                f"a trainer, surrogate={surrogate}(...)" + _or_default(self.task)
            )
        self._given = metric, dict(metric_options or {})
        super().__init__(
            metric if isinstance(metric, LoadedGroupMetric) else GroupMetric(metric, options=metric_options),
            partial(self.task.new_surrogate, cls),
            self.task.perturbed,
            self.task.decode,
            group_size=group_size or self.task.group_size_for(cls),
            **settings,
        )

    def learn(
        self,
        predictions: Predictions | str | Path,
        others: Predictions | None = None,
        earlier: CountedLoss | None = None,
    ) -> LearningReport:
        if not isinstance(predictions, Predictions):
            predictions = Predictions.load(predictions)
        metric, options = self._given
        if not isinstance(metric, LoadedGroupMetric):
            self.metric = group_metric(self.task, predictions, metric, options=options)
        return super().learn(predictions, others, earlier)


def learner_for(
    task: Task | type[Task],
    metric: LoadedGroupMetric,
    surrogate: str | None = None,
    group_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SurrogateLearner | CandidateLearner:
    """The learner of a loss. It learns from candidates of the same examples if the task does so for this class, else
    from groups of different examples.

    Args:
        task: the task of the surrogate.
        metric: the metric to learn.
        surrogate: the name of the class. Pass None for that of the metric, or the default of the task.
        group_size: examples in a group. Pass None for the default of the task.
        seed: seed of the learner.
        progress: whether to show a progress bar, if learning takes long enough for one.

    Raises:
        ValueError: the class cannot be learned.
    """
    cls = surrogate_to_learn(task, metric, surrogate)
    group_size = group_size or task.group_size_for(cls)
    if task.learns_from_candidates(cls):
        return CandidateLearner(metric, cls.__name__, group_size=group_size, seed=seed)
    return SurrogateLearner(metric, cls.__name__, group_size=group_size, seed=seed, progress=progress)


def surrogate_to_learn(
    task: Task | type[Task], metric: LoadedGroupMetric, name: str | None = None
) -> type[SurrogateLoss]:
    """The class with this name. Without a name it is the class for the metric.

    Raises:
        ValueError: no class has this name, or it is for another task.
    """
    if name is None:
        return task.surrogate_for(metric)
    cls = surrogate_class(name)
    if cls.task != task.name:
        raise ValueError(
            f"surrogate_class={name!r} is for the task {cls.task!r}, but the task is {task.name!r}: pass a class for "
            f"that task, or None for {task.surrogate_for(metric).__name__}"
        )
    return cls


def group_metric(
    task: type[Task],
    predictions: Predictions,
    metric: MetricLike,
    key: str | None = None,
    lower_is_better: bool | None = None,
    options: Mapping[str, Any] | None = None,
) -> GroupMetric:
    """The metric of saved predictions, with the options that a trainer adds to keep all groups comparable."""
    if issubclass(task, CandidateTask):
        options = task.metric_options_of(predictions.features, metric, dict(options or {}))
    return GroupMetric(metric, key, lower_is_better, options)


def _or_default(task: type[Task]) -> str:
    default = task.default_surrogate
    return f", or learn a {default.__name__}" if task.learns_from_candidates(default) else ""
