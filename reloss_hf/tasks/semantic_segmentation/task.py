"""Models of semantic segmentation: a class for each pixel of an image."""

from collections.abc import Mapping, Sequence, Sized
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...classes.losses import IGNORED
from ...learning.calling import VectorisedMetric, unwrapped
from ...learning.metrics import LoadedGroupMetric
from ...surrogate import weighted_mean
from ..base import Inputs
from ..decisions import DecisionTask
from ..models import class_names, is_known_as, loss_of, model_and_wrapped, named_outputs
from .candidates import perturbed
from .hand_made import PixelDiceLoss, PixelFocalLoss, PixelJaccardLoss, PixelLovaszLoss, PixelWeightedCrossEntropy
from .losses import PixelCosts, PixelCrossEntropy
from .metrics import METRICS, MeanIouMetric
from .pixels import ignored_label, sampled, targets_of_masks, upsampled

_CLASSES = class_names("MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES")
_OF_MASKS = class_names(
    "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES", "MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING_NAMES"
)
# Masks of a data set that are read before training, at most.
_MOST_READ = 2000


class SemanticSegmentationTask(DecisionTask):
    """Semantic segmentation. Labels are masks of classes, `(n, H, W)`. Logits are `(n, C, h, w)` of any size, and are
    upsampled to the masks. See `losses`.

    The loss before the switch is that of the model, the mean over labelled pixels. If the model has an auxiliary head,
    the loss of that head stays in the loss.

    Predictions are the arg-max of a sample of the labelled pixels, as a list of classes for each image.
    """

    name = "semantic_segmentation"
    does = "segments images"
    default_surrogate = PixelCosts
    hand_made = (
        PixelCrossEntropy,
        PixelWeightedCrossEntropy,
        PixelFocalLoss,
        PixelJaccardLoss,
        PixelDiceLoss,
        PixelLovaszLoss,
    )
    metrics: ClassVar = METRICS
    perturbed = staticmethod(perturbed)
    group_size = 8  # of 1,024 pixels each

    @classmethod
    def handles(cls, model: torch.nn.Module) -> bool:
        return is_known_as(model, _CLASSES | _OF_MASKS)

    @classmethod
    def fits(cls, outputs: Any, inputs: Inputs) -> bool:
        labels, logits = inputs.get("labels"), named_outputs(outputs, ["logits"])["logits"]
        if labels is None or logits is None or logits.ndim != 4 or logits.shape[1] < 2:
            return False
        return labels.ndim == 3 and len(labels) == len(logits)

    @classmethod
    def reads(cls, features: dict[str, Tensor]) -> bool:
        return super().reads(features) and features["logits"].ndim == 4

    def __init__(self, model: torch.nn.Module, processing_class: Any):
        super().__init__(model, processing_class)
        modules = list(model_and_wrapped(model))
        of_masks = next((type(module).__name__ for module in modules if is_known_as(module, _OF_MASKS)), None)
        if of_masks is not None:
            raise ValueError(
                f"model={of_masks} predicts whole masks and matches them to the gold ones, so it has no logits of "
                "pixels: pass a model for semantic segmentation, such as SegformerForSemanticSegmentation"
            )
        config = next((module.config for module in modules if hasattr(module, "config")), None)
        self.classes = getattr(config, "num_labels", None) or 0  # 0 until the first batch tells it
        if self.classes == 1:
            raise ValueError(
                f"model={type(model).__name__} has one logit for each pixel (num_labels=1): load it with num_labels=2"
            )
        self.ignored = ignored_label(model)
        known = any(is_known_as(module, _CLASSES) for module in modules)
        self.has_auxiliary_loss = known and bool(getattr(config, "use_auxiliary_head", False))
        self.keeps_labels = self.has_auxiliary_loss

    def require_labels(self, inputs: Inputs) -> None:
        labels = inputs.get("labels")
        if labels is None:
            raise ValueError(
                f"the batch has no 'labels', only {sorted(inputs)}: name the masks 'labels', as an image processor "
                "with segmentation_maps= does"
            )
        if labels.ndim != 3:
            raise ValueError(
                f"labels of the shape {tuple(labels.shape)} are no masks: pass the class of each pixel, (n, height, "
                "width)"
            )
        self._require_classes(targets_of_masks(labels, self.ignored))

    def weight(self, inputs: Inputs) -> Tensor:
        return (targets_of_masks(inputs["labels"], self.ignored) != IGNORED).sum()

    def for_model(self, inputs: Inputs) -> Inputs:
        """With the label of the model's configuration for pixels that count for nothing."""
        inputs = super().for_model(inputs)
        if inputs.get("labels") is None:
            return inputs
        labels = inputs["labels"].long()
        return inputs | {"labels": labels.masked_fill(labels == IGNORED, self.ignored)}

    def meet(self, model: torch.nn.Module, inputs: Inputs) -> None:
        if not self.has_met and inputs.get("labels") is not None:
            self.require_labels(inputs)
        super().meet(model, inputs)

    def look_at(self, outputs: Any, inputs: Inputs) -> None:
        logits = named_outputs(outputs, self.logits)["logits"]
        self._require_sizes(logits, inputs["labels"])
        self.classes = logits.shape[1]
        self._require_classes(targets_of_masks(inputs["labels"], self.ignored))

    def lasting_loss(self, outputs: Any, features: dict[str, Tensor]) -> Tensor | None:
        """The loss of the model without the cross-entropy of its main logits: that of the auxiliary head."""
        if not self.has_auxiliary_loss:
            return None
        main = weighted_mean(PixelCrossEntropy.cross_entropy(features), PixelCrossEntropy.weights(features))
        return torch.nan_to_num(loss_of(outputs) - main, nan=0.0)

    def features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, reads: tuple[str, ...]
    ) -> dict[str, Tensor]:
        logits, labels = named_outputs(outputs, self.logits)["logits"], inputs["labels"]
        self._require_sizes(logits, labels)
        return {"logits": upsampled(logits, labels.shape[1:]), "labels": targets_of_masks(labels, self.ignored)}

    def kept(self, outputs: Any, inputs: Inputs, seeds: Sequence[int]) -> dict[str, Tensor]:
        logits, labels = named_outputs(outputs, self.logits)["logits"], inputs["labels"]
        self._require_sizes(logits, labels)
        masks = targets_of_masks(labels[: len(seeds)], self.ignored)
        return dict(zip(("logits", "labels"), sampled(logits[: len(seeds)].detach(), masks, seeds), strict=True))

    def references(self, features: dict[str, Tensor]) -> list:
        return features["labels"].squeeze(2).tolist()

    @staticmethod
    def decode(features: dict[str, Tensor], names: Sequence[str]) -> np.ndarray:
        """The classes of the pixels of each image, shape `(n, pixels)`."""
        return features["logits"].argmax(-1).squeeze(2).numpy()

    def metric_options(self, metric: Any, options: dict[str, Any]) -> dict[str, Any]:
        """The classes of the model, and for each set of images those that are gold there."""
        return _with_classes(metric, options, self.classes)

    @staticmethod
    def metric_options_of(features: dict[str, Tensor], metric: Any, options: dict[str, Any]) -> dict[str, Any]:
        return _with_classes(metric, options, features["logits"].shape[-1])

    def label_counts(self, dataset: Any) -> tuple[Tensor, int] | None:
        """From 2,000 images at most, evenly spread."""
        table = self._counted(dataset, 1 + (_size_of(dataset) - 1) // _MOST_READ)
        return None if table is None else (table.sum(0), int(table.sum()))

    def label_table(self, dataset: Any) -> Tensor | None:
        """None also if reading all masks takes too long: if there are more than 2,000."""
        table = self._counted(dataset, 1) if _size_of(dataset) <= _MOST_READ else None
        return None if table is None else (table > 0).long()

    def sample_pair(self) -> tuple[Any, Any]:
        """An image of one pixel with the right class, the first."""
        return [0], [0]

    def try_metric(self, metric: LoadedGroupMetric, dataset: Any, group_size: int) -> None:
        if isinstance(metric.metric, VectorisedMetric) and not isinstance(metric.metric, MeanIouMetric):
            raise ValueError(
                f"the metric {metric.name!r} is not for pixels: pass metric='mean_iou', metric='mean_accuracy' or "
                "metric='overall_accuracy', or a function that is given the classes of the pixels of each image"
            )
        if isinstance(metric.metric, MeanIouMetric):
            metric.metric.require_own_labels()
        right = np.arange(self.classes).reshape(1, -1).repeat(2, 0)
        wrong, same = (right + 1) % self.classes, np.zeros_like(right)
        groups = np.arange(3 * len(right)).reshape(3, -1)
        scores = metric(np.concatenate([right, wrong, same]), np.concatenate([right] * 3), groups)
        if len(set(scores.tolist())) == 1:
            raise ValueError(
                f"the metric {metric.name!r} is {scores[0]} for right classes, for wrong ones and for the same "
                "everywhere, so it does not depend on the predictions; pass another metric="
            )

    def _require_sizes(self, logits: Tensor, labels: Tensor) -> None:
        """Raises ValueError if masks are not of the images of the logits, or of another shape: on end, or cropped."""
        (height, width), (tall, wide) = logits.shape[2:], labels.shape[1:]
        # Each side of the logits is that of the image divided by a stride, rounded up or down.
        if len(logits) != len(labels) or abs(tall * width - wide * height) > tall + wide:
            raise ValueError(
                f"masks of the shape {tuple(labels.shape)} do not fit logits of the shape {tuple(logits.shape)}: "
                "resize and crop each mask as its image, (n, height, width)"
            )

    def _require_classes(self, labels: Tensor) -> None:
        if not labels.numel() or not self.classes:
            return
        lowest, highest = labels.aminmax()
        if highest >= self.classes or (lowest < 0 and (labels[labels != IGNORED] < 0).any()):
            known = labels[labels != IGNORED]
            wrong = known[(known < 0) | (known >= self.classes)].unique().tolist()
            void = (
                f"{self.ignored}, as the configuration of the model says"
                if self.ignored != IGNORED
                else ("-100, or set semantic_loss_ignore_index= in the configuration of the model")
            )
            raise ValueError(
                f"labels {wrong[:10]} are no classes of the model, which are 0 to {self.classes - 1}: load the model "
                f"with the right num_labels=, and label pixels that count for nothing {void}"
            )

    def _counted(self, dataset: Any, step: int) -> Tensor | None:
        """How many pixels have each class, for every row at this step, shape `(rows, C)`. None if rows have no masks,
        as where the collator makes them.

        Raises:
            ValueError: a mask has other classes, or no pixel counts.
        """
        found = []
        for row in range(0, _size_of(dataset), step):
            example = dataset[row]
            if not isinstance(example, Mapping) or "labels" not in example:
                return None
            labels = targets_of_masks(torch.as_tensor(np.asarray(example["labels"])), self.ignored)
            self._require_classes(labels)
            found.append(labels[labels != IGNORED].bincount(minlength=self.classes))
        if found and not any(counts.any() for counts in found):
            raise ValueError(
                f"no pixel of {len(found)} masks counts, because all are labelled {self.ignored} or {IGNORED}: pass "
                "masks with classes"
            )
        return torch.stack(found) if found else None


def _size_of(dataset: Any) -> int:
    """How many rows can be read; 0 if they would be consumed."""
    return len(dataset) if isinstance(dataset, Sized) and hasattr(dataset, "__getitem__") else 0


def _with_classes(metric: Any, options: dict[str, Any], classes: int) -> dict[str, Any]:
    metric, own = unwrapped(metric)
    name = metric if isinstance(metric, str) else getattr(metric, "name", None)
    if name not in METRICS:
        return options
    fixed = {"num_labels": classes, "ignore_index": IGNORED, "gold_only": True}
    return {option: value for option, value in fixed.items() if option not in own} | options
