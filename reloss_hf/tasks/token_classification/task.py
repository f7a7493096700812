"""Taggers of tokens: named entities, parts of speech or anything else that has a tag for each word."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np
import torch
from torch import Tensor
from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding

from ...classes.losses import IGNORED, labelled
from ...learning.calling import unwrapped
from ...learning.metrics import LoadedGroupMetric
from ...learning.predictions import Predictions
from ...surrogate import SurrogateLoss
from ..base import Inputs
from ..decisions import DecisionTask
from ..models import class_names, is_known_as, named_outputs
from .candidates import perturbed
from .evaluation import tags_of
from .hand_made import (
    OutsideLoss,
    OutsideWeightedCrossEntropy,
    TagDiceLoss,
    TagFocalLoss,
    TagSoftF1Loss,
    TagWeightedCrossEntropy,
)
from .losses import TagCosts, TagCrossEntropy
from .metrics import METRICS
from .spans import OUTSIDE, types_of

_CLASSES = class_names("MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES")


class TokenClassificationTask(DecisionTask):
    """Tagging. An example is a sentence. Labels are the tags of its tokens, `(n, L)`, and -100 for tokens that count
    for nothing. Logits are `(n, L, C)`. See `losses`.

    Predictions are the arg-max of the labelled tokens, as lists of the names in `model.config.id2label`.
    """

    name = "token_classification"
    does = "tags tokens"
    called = "tags"
    default_surrogate = TagCosts
    hand_made = (
        TagCrossEntropy,
        TagWeightedCrossEntropy,
        OutsideWeightedCrossEntropy,
        TagFocalLoss,
        TagDiceLoss,
        TagSoftF1Loss,
    )
    metrics: ClassVar = METRICS
    window_of = "text"
    perturbed = staticmethod(perturbed)

    @classmethod
    def handles(cls, model: torch.nn.Module) -> bool:
        return is_known_as(model, _CLASSES)

    @classmethod
    def fits(cls, outputs: Any, inputs: Inputs) -> bool:
        """Never, because the outputs of a model that generates text have the same shapes."""
        return False

    @classmethod
    def reads(cls, features: dict[str, Tensor]) -> bool:
        return super().reads(features) and features["logits"].ndim == 3

    def __init__(self, model: torch.nn.Module, processing_class: Any):
        super().__init__(model, processing_class)
        self.names = tags_of(model)
        self.classes = len(self.names)
        if not self.names:
            raise ValueError(
                f"model={type(model).__name__} has no config.id2label, so its tags have no names: load the model with "
                "id2label=dict(enumerate(names))"
            )

    def collator(self, data_collator: Callable) -> Callable:
        """The Trainer's own collator pads no labels, so another takes its place."""
        if type(data_collator) is DataCollatorWithPadding:
            given = data_collator
            return DataCollatorForTokenClassification(
                given.tokenizer,
                padding=given.padding,
                max_length=given.max_length,
                pad_to_multiple_of=given.pad_to_multiple_of,
                return_tensors=given.return_tensors,
            )
        return data_collator

    def require_labels(self, inputs: Inputs) -> None:
        if inputs.get("labels") is None:
            raise ValueError(
                f"the batch has no 'labels', only {sorted(inputs)}: make features by prepare_tagging_features, or name "
                "the column of the tags of tokens 'labels'"
            )

    def weight(self, inputs: Inputs) -> Tensor:
        return (inputs["labels"] != IGNORED).sum()

    def meet(self, model: torch.nn.Module, inputs: Inputs) -> None:
        if not self.has_met and inputs.get("labels") is not None:
            self._require_tags(inputs["labels"].flatten())
        super().meet(model, inputs)

    def look_at(self, outputs: Any, inputs: Inputs) -> None:
        logits, labels = named_outputs(outputs, self.logits)["logits"], inputs["labels"]
        if logits.ndim != 3 or logits.shape[:2] != labels.shape:
            raise ValueError(
                f"logits of the shape {tuple(logits.shape)} do not fit labels of the shape {tuple(labels.shape)}: a "
                "tagger needs a label for each token, -100 for tokens that count for nothing"
            )
        if logits.shape[2] != self.classes:
            raise ValueError(
                f"the model has logits of {logits.shape[2]} tags, but model.config.id2label names {self.classes}: "
                "load the model with id2label="
            )

    def fit(self, surrogate: SurrogateLoss, dataset: Any) -> None:
        super().fit(surrogate, dataset)
        if isinstance(surrogate, OutsideLoss) and surrogate.outside is None:
            if OUTSIDE not in self.names:
                raise ValueError(
                    f"surrogate={type(surrogate).__name__} treats the tag {OUTSIDE!r} apart, but the tags of the model "
                    f"are {_some(self.names)}: pass outside=, the number of the tag outside of entities"
                )
            surrogate.outside = self.names.index(OUTSIDE)

    def label_counts(self, dataset: Any) -> tuple[Tensor, int] | None:
        labels = self.column_of_labels(dataset)
        if labels is None:
            return None
        tags = self._require_tags(_flat(labels))
        return tags.bincount(minlength=self.classes), len(tags)

    def features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, reads: tuple[str, ...]
    ) -> dict[str, Tensor]:
        logits = named_outputs(outputs, self.logits)["logits"]
        return {"logits": logits.float(), "labels": inputs["labels"]}

    def kept(self, outputs: Any, inputs: Inputs, seeds: Sequence[int]) -> dict[str, Tensor]:
        return _labelled_tokens(self.first_features(outputs, inputs, len(seeds)))

    def references(self, features: dict[str, Tensor]) -> list:
        return _names_of(features["labels"], features, self.names).tolist()

    @staticmethod
    def decode(features: dict[str, Tensor], names: Sequence[str]) -> np.ndarray:
        """A list of names for each sentence."""
        return _names_of(features["logits"].argmax(-1), features, names)

    def metric_options(self, metric: Any, options: dict[str, Any]) -> dict[str, Any]:
        """With all types of the model's tags, if the metric is seqeval."""
        metric, _ = unwrapped(metric)
        name = metric.name if isinstance(metric, evaluate.EvaluationModule) else metric
        if not isinstance(name, str) or name not in METRICS:
            return options
        return {"types": types_of(self.names, options.get("suffix", False))} | options

    @classmethod
    def compared(cls, predictions: Predictions) -> list[SurrogateLoss]:
        """Without those that treat `O` apart, if no tag has this name."""
        losses = super().compared(predictions)
        for loss in losses:
            if isinstance(loss, OutsideLoss) and OUTSIDE in predictions.names:
                loss.outside = predictions.names.index(OUTSIDE)
        return [loss for loss in losses if not isinstance(loss, OutsideLoss) or loss.outside is not None]

    def label_table(self, dataset: Any) -> Tensor | None:
        labels = self.column_of_labels(dataset)
        if labels is None:
            return None
        table = torch.zeros(len(labels), self.classes, dtype=torch.long)
        rows = torch.arange(len(labels)).repeat_interleave(torch.tensor([len(row) for row in labels]))
        tags = _flat(labels)
        known = tags != IGNORED
        table[rows[known], self._require_tags(tags)] = 1
        return table

    def sample_pair(self) -> tuple[Any, Any]:
        """A sentence of one word with the right tag, the first."""
        return [self.names[0]], [self.names[0]]

    def try_metric(self, metric: LoadedGroupMetric, dataset: Any, group_size: int) -> None:
        tags = list(self.names)
        right = [*([tag] for tag in tags), *([tag, tag] for tag in tags), tags]
        moved = dict(zip(tags, [*tags[1:], tags[0]], strict=True))
        wrong, same = [[moved[tag] for tag in row] for row in right], [[tags[0]] * len(row) for row in right]
        groups = np.arange(3 * len(right)).reshape(3, -1)
        scores = metric([*right, *wrong, *same], right * 3, groups)
        if len(set(scores.tolist())) == 1:
            raise ValueError(
                f"the metric {metric.name!r} is {scores[0]} for right tags, for wrong ones and for the same "
                "everywhere, so it does not depend on the predictions; pass another metric="
            )
        if isinstance(dataset, datasets.Dataset) and "labels" in dataset.column_names:
            self._require_tags(_flat(dataset.with_format(None)["labels"][:]))

    def _require_tags(self, labels: Tensor) -> Tensor:
        """The labels without those of tokens that count for nothing.

        Raises:
            ValueError: a label is no tag of the model.
        """
        labels = labels[labels != IGNORED].long()
        wrong = labels[(labels < 0) | (labels >= self.classes)]
        if len(wrong):
            raise ValueError(
                f"labels {wrong.unique().tolist()[:10]} are no tags of the model, which are 0 to {self.classes - 1}: "
                "load the model with the right id2label=, and number the tags in its order"
            )
        return labels


def _names_of(ids: Tensor, features: dict[str, Tensor], names: Sequence[str]) -> np.ndarray:
    """The names of the labelled tokens' tags, a list for each sentence."""
    known = labelled(features)
    flat = np.array(names, dtype=object)[ids[known].numpy()].tolist()
    ends = known.sum(1).cumsum(0).tolist()
    sentences = (flat[start:end] for start, end in zip([0, *ends], ends, strict=False))
    return np.fromiter(sentences, dtype=object, count=len(ends))


def _labelled_tokens(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """The labelled tokens of each sentence, in their order, with padding behind them. Sentences without any are left
    out."""
    known = labelled(features)
    features, known = {name: value[known.any(1)] for name, value in features.items()}, known[known.any(1)]
    order = (~known).long().sort(dim=1, stable=True).indices[:, : int(known.sum(1).max()) if len(known) else 0]
    logits = features["logits"].gather(1, order.unsqueeze(2).expand(-1, -1, features["logits"].shape[2]))
    return {"logits": logits.contiguous(), "labels": features["labels"].gather(1, order)}


def _flat(labels: list) -> Tensor:
    return torch.tensor([tag for row in labels for tag in row], dtype=torch.long)


def _some(names: Sequence[str]) -> list[str]:
    return [*names[:10], *(["..."] if len(names) > 10 else [])]
