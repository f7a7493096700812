"""The learner as users call it: with metrics and classes of surrogates by name."""

from typing import Any

import torch

from .learning.learner import Learner
from .learning.metrics import LoadedGroupMetric
from .metrics import GroupMetric, MetricLike
from .surrogate import SurrogateLoss, surrogate_class


class SurrogateLearner(Learner):
    __doc__ = """Learns a surrogate loss outside any Trainer.

    Example:
        >>> learner = SurrogateLearner("sacrebleu", surrogate="NgramSurrogate")
        >>> report = learner.learn("out/predictions")
        >>> learner.surrogate.save_pretrained("out/surrogate")

    The metric is what `GroupMetric` takes, or one; the surrogate may be the name of a class.

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
