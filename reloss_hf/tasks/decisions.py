"""The base of tasks whose models decide between classes."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..classes.costs import ErrorCosts
from ..classes.hand_made import FrequencyLoss
from ..classes.losses import labelled, targets_of
from ..classes.soft_counts import LearnedCounts
from ..learning.predictions import Predictions
from ..surrogate import CountedLoss, SurrogateLoss
from .base import Candidate, Inputs
from .same_examples import CandidateTask, of_candidates


class DecisionTask(CandidateTask):
    """A task whose models give logits of classes, for an example or for each of its parts. See `classes.losses`.

    Attributes:
        called: what messages call the classes.
        classes: how many classes the model has.
        names: the names of the classes, if the metric's format has names.
    """

    called: ClassVar[str] = "classes"
    default_loss = None
    group_size = 256
    needs_processing_class = False
    reads_logits_and_labels_alone = True
    labels = ("labels",)
    logits = ("logits",)
    classes: int
    names: tuple[str, ...] = ()

    def batch_size(self, inputs: Inputs) -> int:
        return len(inputs["labels"])

    def fit(self, surrogate: SurrogateLoss, dataset: Any) -> None:
        if isinstance(surrogate, FrequencyLoss) and surrogate.needs_frequencies:
            counted = self.label_counts(dataset)
            if counted is None:
                raise ValueError(
                    f"the {self.called} of train_dataset={type(dataset).__name__} cannot be counted, as it has no "
                    f"column {' or '.join(self.label_columns)}: pass a datasets.Dataset with one, or pass "
                    "frequencies= to the loss"
                )
            surrogate.count(*counted)
        if isinstance(surrogate, ErrorCosts | LearnedCounts) and surrogate.classes != self.classes:
            raise ValueError(
                f"surrogate={type(surrogate).__name__} was learned for {surrogate.classes} {self.called}, and "
                f"{type(self.model).__name__} has {self.classes}: pass metric= to learn one for this model"
            )

    @abstractmethod
    def label_counts(self, dataset: Any) -> tuple[Tensor, int] | None:
        """How many decisions of a data set have each class, shape `(C,)`, and how many decisions there are. None if
        they cannot be read."""

    def forced_predictions(
        self, outputs: Any, inputs: Inputs, candidates: Sequence[Candidate], seeds: Sequence[int]
    ) -> Predictions:
        features = self.kept(outputs, inputs, seeds)
        references = self.references(features)
        of_none = torch.zeros(len(references), dtype=torch.long)
        predictions = Predictions(features, self.decode(features, self.names).tolist(), references, of_none, self.names)
        return of_candidates(predictions, candidates)

    @abstractmethod
    def kept(self, outputs: Any, inputs: Inputs, seeds: Sequence[int]) -> dict[str, Tensor]:
        """The features to keep of the first `len(seeds)` examples, on the CPU, without the examples that have no
        label."""

    @abstractmethod
    def references(self, features: dict[str, Tensor]) -> list:
        """The references in the metric's format, one for each example."""

    @staticmethod
    def new_surrogate(cls: type[CountedLoss], features: dict[str, Tensor]) -> CountedLoss:
        return cls(classes=features["logits"].shape[-1]) if issubclass(cls, ErrorCosts | LearnedCounts) else cls()

    @classmethod
    def compared(cls, predictions: Predictions) -> list[SurrogateLoss]:
        losses = super().compared(predictions)
        targets = targets_of(predictions.features)[labelled(predictions.features)]
        for loss in losses:
            if isinstance(loss, FrequencyLoss):
                loss.count(targets.sum(0), len(targets))
        return losses

    def first_features(self, outputs: Any, inputs: Inputs, count: int) -> dict[str, Tensor]:
        """The features of the first examples, on the CPU."""
        features = self.features(self.model, outputs, inputs, ())
        return {name: value[:count].detach().cpu() for name, value in features.items()}
