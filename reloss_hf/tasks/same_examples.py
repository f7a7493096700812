"""The base of tasks that learn a surrogate from candidates of the same examples."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..surrogate import CountedLoss
from .base import Task


class CandidateTask(Task):
    """A task that can perturb and decode predictions from their features alone. It learns a surrogate from candidates
    of the same examples, at the switch and again after it. It collects no snapshots before the switch."""

    @staticmethod
    @abstractmethod
    def perturbed(
        features: dict[str, Tensor],
        count: int,
        generator: torch.Generator,
        strength: float = 1.0,
        names: Sequence[str] = (),
    ) -> dict[str, Tensor]:
        """`count` copies of the features of some examples, one after the other. Each is perturbed in its own way, as
        another training might change them, scaled by `strength`. `names` are those of the `Predictions`."""

    @staticmethod
    @abstractmethod
    def decode(features: dict[str, Tensor], names: Sequence[str]) -> np.ndarray:
        """Predictions in the metric's format, one row for each example. `names` are those of the `Predictions`."""

    @staticmethod
    @abstractmethod
    def new_surrogate(cls: type[CountedLoss], features: dict[str, Tensor]) -> CountedLoss:
        """A new surrogate to learn, built for such features."""

    @abstractmethod
    def metric_options(self, metric: Any, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a metric while a surrogate is learned: the given ones, and those that must be the same in all
        groups, such as the set of classes."""

    @staticmethod
    @abstractmethod
    def metric_options_of(features: dict[str, Tensor], metric: Any, options: dict[str, Any]) -> dict[str, Any]:
        """The same options, from the features of predictions instead of the model."""

    def held_out(self, dataset: Any) -> Any:
        """A slice of the training data as it is read to learn from, without what only training does to it."""
        return dataset

    @abstractmethod
    def label_table(self, labels: list) -> Tensor:
        """The labels of each example as 0/1, shape `(examples, C)`, from a column of a data set. A held-out slice is
        drawn so that it has all labels."""
