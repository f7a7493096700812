"""The base of tasks that learn a surrogate from candidates of the same examples."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from torch import Tensor

from ..learning.predictions import Predictions
from ..surrogate import CountedLoss, SurrogateLoss
from .base import Candidate, Inputs, Task

logger = logging.getLogger(__name__)


class CandidateTask(Task):
    """A task that can perturb and decode predictions from their features alone. It learns its surrogates, or some of
    them, from candidates of the same examples, at the switch and again after it. For these it collects no snapshots
    before the switch.

    Attributes:
        decoded_from: the features that `perturbed` and `decode` read and that the losses do not read.
        generates_slice: whether the model generates its predictions of a held-out slice, token by token.
        learned_from_candidates: the base of the losses that are learned from candidates of the same examples; others
            are learned from groups of different examples.
        set_size: how many examples a set of candidates has; None for `group_size`.
        window_of: the column that says which text a row of a data set is a window of, if rows are windows of texts.
    """

    decoded_from: ClassVar[tuple[str, ...]] = ()
    generates_slice: ClassVar[bool] = False
    learned_from_candidates: ClassVar[type[SurrogateLoss]] = SurrogateLoss
    set_size: ClassVar[int | None] = None
    window_of: ClassVar[str | None] = None

    @classmethod
    def learns_from_candidates(cls, surrogate: type[SurrogateLoss]) -> bool:
        return issubclass(surrogate, cls.learned_from_candidates)

    @classmethod
    def group_size_for(cls, surrogate: type[SurrogateLoss]) -> int:
        return cls.set_size or cls.group_size if cls.learns_from_candidates(surrogate) else cls.group_size

    def predictions_to_perturb(self, outputs: Any, inputs: Inputs, number: int) -> Predictions:
        """As `predictions`, with the features that `perturbed` and `decode` read."""
        return self.predictions(outputs, inputs, number)

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
    def new_surrogate(cls: type[CountedLoss], features: dict[str, Tensor]) -> CountedLoss:
        """A new surrogate to learn, built for such features."""
        return cls()

    def metric_options(self, metric: Any, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a metric while a surrogate is learned: the given ones, and those that must be the same in all
        groups, such as the set of classes. No others, unless a task says otherwise."""
        return options

    @staticmethod
    def metric_options_of(features: dict[str, Tensor], metric: Any, options: dict[str, Any]) -> dict[str, Any]:
        """The same options, from the features of predictions instead of the model."""
        return options

    def held_out(self, dataset: Any) -> Any:
        """A slice of the training data as it is read to learn from, without what only training does to it."""
        return dataset

    @abstractmethod
    def label_table(self, dataset: Any) -> Tensor | None:
        """The labels of each example of a data set as 0/1, shape `(examples, C)`; None if they cannot be read. A
        held-out slice is drawn so that it has all labels."""

    def require_slice(self, table: Tensor | None) -> None:
        """Warn, or raise ValueError, if a held-out slice cannot tell all costs.

        Args:
            table: the result of `label_table`; None if the labels of the slice are not known.
        """
        missing = [] if table is None else (table.sum(0) == 0).nonzero().flatten().tolist()
        if missing:
            logger.warning(
                "The labels %s never occur in the data that the surrogate is learned from, so they get the average "
                "cost: to learn their costs, pass surrogate_dataset= or a larger surrogate_held_out_share=",
                missing,
            )

    def column_of_labels(self, dataset: Any) -> list | None:
        """The labels of all examples of a data set; None if it has no column of labels."""
        names = dataset.column_names if isinstance(dataset, datasets.Dataset) else ()
        column = next((name for name in self.label_columns if name in names), None)
        return None if column is None else dataset.with_format(None)[column][:]


def of_candidates(predictions: Predictions, candidates: Sequence[Candidate]) -> Predictions:
    """The predictions as those of one candidate after the other. Corruptions are left out, because the learner perturbs
    predictions itself."""
    parts = [
        replace(predictions, candidates=torch.full((len(predictions),), candidate.id))
        for candidate in candidates
        if not candidate.corruption
    ]
    return Predictions.concatenate(parts)
