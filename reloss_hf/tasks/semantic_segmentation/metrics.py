"""The metrics of segmentation that need no download: `mean_iou` with the options and results of `evaluate`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...learning.calling import VectorisedMetric
from ..base import NamedMetric


@dataclass
class Counts:
    """Pixels of groups of images by class, each of shape `(groups, C)`.

    Attributes:
        hits: the pixels of a class that are predicted as it.
        predicted: the pixels that are predicted as it.
        gold: the pixels of the class.
    """

    hits: np.ndarray
    predicted: np.ndarray
    gold: np.ndarray

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.hits + other.hits, self.predicted + other.predicted, self.gold + other.gold)


class MeanIouMetric(VectorisedMetric):
    """Mean IoU, mean accuracy and overall accuracy of maps of classes, from the pixels of all images together.

    A class that is neither gold nor predicted is left out of the means.

    Args:
        num_labels: the number of classes. None for as many as occur.
        ignore_index: the label of pixels that count for nothing.
        nan_to_num: what replaces NaN in the results.
        label_map: pairs of old and new labels, for the references.
        reduce_labels: whether label 0 of the references counts for nothing and others are lowered by 1.
        gold_only: whether classes that are not gold are left out, even if they are predicted. Otherwise their IoU is 0.
            `evaluate` has no such option. A trainer sets it while a loss is learned, because a few images have few of
            the classes, and all candidates for them must be measured by the same classes.
    """

    name = "mean_iou"

    def __init__(
        self,
        num_labels: int | None = None,
        ignore_index: int = 255,
        nan_to_num: float | None = None,
        label_map: Mapping[int, int] | None = None,
        reduce_labels: bool = False,
        gold_only: bool = False,
    ):
        if num_labels is not None and num_labels < 2:
            raise ValueError(f"num_labels={num_labels} must be at least 2, or None")
        self.num_labels, self.ignore_index, self.nan_to_num = num_labels, ignore_index, nan_to_num
        self.label_map, self.reduce_labels, self.gold_only = dict(label_map or {}), reduce_labels, gold_only

    def require_own_labels(self) -> None:
        """Raises ValueError if the metric would reduce labels that are already classes of the model."""
        if self.reduce_labels:
            raise ValueError(
                "reduce_labels=True would lower the labels a second time, as the model is given the masks that its "
                "image processor has reduced: leave it out, and pass do_reduce_labels=True to the image processor"
            )

    def __call__(self, predictions: Sequence, references: Sequence) -> dict[str, Any]:
        """`mean_iou`, `mean_accuracy` and `overall_accuracy`, 0 to 1, and `per_category_iou` and
        `per_category_accuracy`, arrays of shape `(C,)`.

        Args:
            predictions: the predicted class of each pixel, an array of integers for each image.
            references: the gold classes, likewise.
        """
        pairs = [(np.asarray(found), np.asarray(gold)) for found, gold in zip(predictions, references, strict=True)]
        for number, (found, gold) in enumerate(pairs):
            if found.shape != gold.shape:
                raise ValueError(
                    f"image {number} has predictions of the shape {found.shape}, but references of {gold.shape}: "
                    "upsample the logits to the size of the mask first"
                )
        found, gold = (np.concatenate([one.ravel() for one in side])[None] for side in zip(*pairs, strict=True))
        result = self.of_counts(self.counts(found, gold))
        return {name: value[0] if name.startswith("per_") else float(value[0]) for name, value in result.items()}

    def scores(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, np.ndarray]:
        return self._numbers(self._counts_of_rows(predictions, references))

    def scores_of_groups(
        self, predictions: np.ndarray, references: np.ndarray, groups: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Each image is counted once, however many groups it is in."""
        counts = self._counts_of_rows(predictions, references)
        return self._numbers(Counts(*(of_images[groups].sum(1) for of_images in vars(counts).values())))

    def counts(self, predictions: np.ndarray, references: np.ndarray) -> Counts:
        """Count the pixels of groups, arrays of integers of shape `(groups, pixels)`."""
        gold = self._mapped(references)
        known = gold != self.ignore_index
        classes = self.num_labels
        if classes is None:
            classes = 1 + max(int(predictions.max(initial=0, where=known)), int(gold.max(initial=0, where=known)))
        first = classes * np.arange(len(gold))[:, None]

        def by_class(values: np.ndarray, which: np.ndarray) -> np.ndarray:
            which = which & known & (values >= 0) & (values < classes)
            found = np.bincount((first + values)[which], minlength=len(values) * classes)
            return found.reshape(len(values), classes)

        everywhere = np.ones_like(known)
        return Counts(
            by_class(gold, gold == predictions), by_class(predictions, everywhere), by_class(gold, everywhere)
        )

    def of_counts(self, counts: Counts) -> dict[str, np.ndarray]:
        """The results of groups, arrays of shape `(groups,)` or `(groups, C)`."""
        union = counts.predicted + counts.gold - counts.hits
        iou = _divided(counts.hits, np.where(counts.gold > 0, union, 0) if self.gold_only else union)
        accuracy = _divided(counts.hits, counts.gold)
        result = {
            "mean_iou": _mean(iou),
            "mean_accuracy": _mean(accuracy),
            "overall_accuracy": _divided(counts.hits.sum(1), counts.gold.sum(1)),
            "per_category_iou": iou,
            "per_category_accuracy": accuracy,
        }
        if self.nan_to_num is not None:
            result = {name: np.nan_to_num(value, nan=self.nan_to_num) for name, value in result.items()}
        return result

    def _counts_of_rows(self, predictions: np.ndarray, references: np.ndarray) -> Counts:
        return self.counts(*(values.reshape(len(references), -1) for values in (predictions, references)))

    def _numbers(self, counts: Counts) -> dict[str, np.ndarray]:
        return {name: value.mean(1) if value.ndim == 2 else value for name, value in self.of_counts(counts).items()}

    def _mapped(self, references: np.ndarray) -> np.ndarray:
        gold = np.asarray(references)
        if self.label_map or self.reduce_labels:
            gold = gold.astype(np.int64)
        for old, new in self.label_map.items():
            gold[gold == int(old)] = new
        if self.reduce_labels:
            gold[gold == 0] = 255
            gold -= 1
            gold[gold == 254] = 255
        return gold


class MeanAccuracyMetric(MeanIouMetric):
    """The same results, of which `mean_accuracy` is the main one."""

    name = "mean_accuracy"


class OverallAccuracyMetric(MeanIouMetric):
    """The same results, of which `overall_accuracy` is the main one."""

    name = "overall_accuracy"


METRICS = {
    "mean_iou": NamedMetric(MeanIouMetric, main_key="mean_iou", replaces_module=True),
    "mean_accuracy": NamedMetric(MeanAccuracyMetric, main_key="mean_accuracy"),
    "overall_accuracy": NamedMetric(OverallAccuracyMetric, main_key="overall_accuracy"),
}


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over classes without NaN; NaN if all are."""
    known = ~np.isnan(values)
    return _divided(np.where(known, values, 0).sum(1), known.sum(1))
