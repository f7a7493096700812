"""The base of tasks that learn a surrogate from candidates of the same examples."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from torch import Tensor

from ..surrogate import CountedLoss
from .base import Task

_LABEL_COLUMNS = ("labels", "label", "label_ids")


class CandidateTask(Task):
    """A task that can perturb and decode predictions from their features alone. It learns a surrogate from candidates
    of the same examples, at the switch and again after it. It collects no snapshots before the switch.

    Attributes:
        window_of: the column that says which text a row of a data set is a window of, if rows are windows of texts.
    """

    window_of: ClassVar[str | None] = None

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

    @abstractmethod
    def label_table(self, dataset: Any) -> Tensor | None:
        """The labels of each example of a data set as 0/1, shape `(examples, C)`; None if they cannot be read. A
        held-out slice is drawn so that it has all labels."""


def column_of_labels(dataset: Any) -> list | None:
    """The labels of all examples of a data set; None if it has no column of labels."""
    names = dataset.column_names if isinstance(dataset, datasets.Dataset) else ()
    column = next((name for name in _LABEL_COLUMNS if name in names), None)
    return None if column is None else dataset.with_format(None)[column][:]
