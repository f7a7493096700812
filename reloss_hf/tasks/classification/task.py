"""Classifiers of texts, images, sounds or anything else, with one class or several labels for each example."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ...classes.losses import IGNORED, decisions, has_several, labelled
from ...learning.metrics import LoadedGroupMetric
from ..base import Inputs
from ..decisions import DecisionTask
from ..models import class_names, is_known_as, named_outputs
from .candidates import perturbed
from .hand_made import (
    ClassWeightedCrossEntropy,
    FocalLoss,
    LabelSmoothedCrossEntropy,
    LogitAdjustedCrossEntropy,
    SoftF1Loss,
)
from .losses import ClassCosts, ClassCrossEntropy
from .metrics import METRICS, takes_labels

_CLASSES = class_names(
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES",
)


class ClassificationTask(DecisionTask):
    """Classification. Labels are classes, `(n,)`, or 0/1 of several labels, `(n, C)`. Logits are `(n, C)`. See
    `losses`.

    Predictions are the arg-max, or the labels with `p > 0.5`.
    """

    name = "classification"
    does = "classifies"
    default_surrogate = ClassCosts
    hand_made = (
        ClassCrossEntropy,
        ClassWeightedCrossEntropy,
        LogitAdjustedCrossEntropy,
        FocalLoss,
        LabelSmoothedCrossEntropy,
        SoftF1Loss,
    )
    metrics: ClassVar = METRICS
    perturbed = staticmethod(perturbed)

    @classmethod
    def handles(cls, model: torch.nn.Module) -> bool:
        return is_known_as(model, _CLASSES)

    @classmethod
    def fits(cls, outputs: Any, inputs: Inputs) -> bool:
        labels, logits = inputs.get("labels"), named_outputs(outputs, ["logits"])["logits"]
        if labels is None or logits is None or logits.ndim != 2 or logits.shape[1] < 2:
            return False
        return labels.shape in (logits.shape, logits.shape[:1], (len(logits), 1))

    @classmethod
    def reads(cls, features: dict[str, Tensor]) -> bool:
        return super().reads(features) and features["logits"].ndim == 2

    def __init__(self, model: torch.nn.Module, processing_class: Any):
        super().__init__(model, processing_class)
        config = getattr(model, "config", None)
        self.classes = getattr(config, "num_labels", None) or 2
        self.several = getattr(config, "problem_type", None) == "multi_label_classification"
        if getattr(config, "num_labels", None) == 1 or getattr(config, "problem_type", None) == "regression":
            raise ValueError(
                f"model={type(model).__name__} has a regression head (num_labels={config.num_labels}, problem_type="
                f"{config.problem_type!r}), and no metric is learned for it: use a plain Trainer, or num_labels >= 2"
            )

    def require_labels(self, inputs: Inputs) -> None:
        if inputs.get("labels") is None:
            raise ValueError(
                f"the batch has no 'labels', only {sorted(inputs)}: name the column of the classes 'labels' or 'label'"
            )

    def weight(self, inputs: Inputs) -> Tensor:
        labels = _labels(inputs)
        return torch.tensor(len(labels)) if labels.ndim == 2 else (labels != IGNORED).sum()

    def label_counts(self, dataset: Any) -> tuple[Tensor, int] | None:
        table = self.label_table(dataset)
        return None if table is None else (table.sum(0), len(table))

    def for_model(self, inputs: Inputs) -> Inputs:
        several = inputs.get("labels") is not None and _labels(inputs).ndim == 2  # 0/1 labels may be integers
        return super().for_model(inputs | {"labels": inputs["labels"].float()} if several else inputs)

    def look_at(self, outputs: Any, inputs: Inputs) -> None:
        labels = _labels(inputs)
        self.classes, self.several = named_outputs(outputs, self.logits)["logits"].shape[1], labels.ndim == 2
        if not self.several:
            self._table(labels)

    def features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, reads: tuple[str, ...]
    ) -> dict[str, Tensor]:
        logits = named_outputs(outputs, self.logits)["logits"]
        return {"logits": logits.float(), "labels": _labels(inputs)}

    def kept(self, outputs: Any, inputs: Inputs, seeds: Sequence[int]) -> dict[str, Tensor]:
        features = self.first_features(outputs, inputs, len(seeds))
        known = labelled(features)
        return {name: value[known] for name, value in features.items()}

    def references(self, features: dict[str, Tensor]) -> list:
        return features["labels"].long().tolist()

    @staticmethod
    def decode(features: dict[str, Tensor], names: Sequence[str]) -> np.ndarray:
        logits = features["logits"]
        return (decisions(logits, True).long() if has_several(features) else logits.argmax(-1)).numpy()

    def metric_options(self, metric: Any, options: dict[str, Any]) -> dict[str, Any]:
        """Pass all classes to metrics that average over them. Otherwise they average only over those that occur."""
        return options if self.several else _with_classes(metric, options, self.classes)

    @staticmethod
    def metric_options_of(features: dict[str, Tensor], metric: Any, options: dict[str, Any]) -> dict[str, Any]:
        return options if has_several(features) else _with_classes(metric, options, features["logits"].shape[1])

    def label_table(self, dataset: Any) -> Tensor | None:
        labels = self.column_of_labels(dataset)
        return None if labels is None else self._table(_labels({"labels": torch.as_tensor(labels)}))

    def sample_pair(self) -> tuple[Any, Any]:
        """A right prediction of the first class, or of the first label."""
        return self._sample(0), self._sample(0)

    def try_metric(self, metric: LoadedGroupMetric, dataset: Any, group_size: int) -> None:
        classes = range(self.classes)
        right, wrong = [self._sample(c) for c in classes], [self._sample((c + 1) % len(classes)) for c in classes]
        scores = metric([*right, *wrong, *[right[0]] * len(right)], right * 3, np.arange(3 * len(right)).reshape(3, -1))
        if len(set(scores.tolist())) == 1:
            raise ValueError(
                f"the metric {metric.name!r} is {scores[0]} for right predictions, for wrong ones and for those of one "
                "class, so it does not depend on the predictions; pass another metric="
            )

    def _table(self, table: Tensor) -> Tensor:
        """Classes, or 0/1 of several labels, as 0/1.

        Raises:
            ValueError: a label is no class of the model.
        """
        if table.ndim == 2:
            return table.long()
        known = table != IGNORED
        if (table[known] < 0).any() or (table[known] >= self.classes).any():
            wrong = sorted({label for label in table.tolist() if label != IGNORED and not 0 <= label < self.classes})
            raise ValueError(
                f"labels {wrong[:10]} are no classes of the model, which are 0 to {self.classes - 1}: load the model "
                "with the right num_labels=, or number the classes from 0"
            )
        return one_hot(table.masked_fill(~known, 0).long(), self.classes) * known.long().unsqueeze(1)

    def _sample(self, label: int) -> Any:
        return [int(c == label) for c in range(self.classes)] if self.several else label


def _labels(inputs: Inputs) -> Tensor:
    """Classes, `(n,)`, also if each is in a row of its own, or 0/1 of several labels, `(n, C)`."""
    labels = inputs["labels"]
    return labels.squeeze(1) if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _with_classes(metric: Any, options: dict[str, Any], classes: int) -> dict[str, Any]:
    averaged = options.get("average", "binary") not in ("binary", "samples")
    if averaged and takes_labels(metric) and "labels" not in options:
        return options | {"labels": list(range(classes))}
    return options
