"""What a task has to offer beside, where a surrogate is learned from candidates of the same examples."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from ..surrogate import CountedLoss
from .base import Task


class CandidateTask(Task):
    """A task whose predictions can be perturbed, and decoded, from their features alone. A surrogate is learned from
    candidates of the same examples, at the switch and again after it; no snapshots are collected before."""

    @staticmethod
    @abstractmethod
    def perturbed(
        features: dict[str, Tensor], count: int, generator: torch.Generator, strength: float = 1.0
    ) -> dict[str, Tensor]:
        """`count` copies of the features of some examples, one after the other, each perturbed in a way of its own: as
        another training might change them, or so many times as strongly."""

    @staticmethod
    @abstractmethod
    def decode(features: dict[str, Tensor]) -> Tensor:
        """Predictions in the metric's format, a row for each example."""

    @staticmethod
    @abstractmethod
    def new_surrogate(cls: type[CountedLoss], features: dict[str, Tensor]) -> CountedLoss:
        """A surrogate to be learned, made for features like these."""

    @abstractmethod
    def metric_options(self, metric: Any, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a metric while a surrogate is learned: those given, and what has to be the same in all groups,
        such as the set of classes."""

    @staticmethod
    @abstractmethod
    def metric_options_of(features: dict[str, Tensor], metric: Any, options: dict[str, Any]) -> dict[str, Any]:
        """The same where the model is not there, but features of its predictions."""

    @abstractmethod
    def label_table(self, labels: list) -> Tensor:
        """Which labels each example has, 0/1 of shape `(examples, C)`, from a column of a data set: so that a held-out
        slice has all of them."""
