"""Evaluates models of segmentation batch by batch."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from accelerate.state import GradientState
from torch import Tensor
from transformers import EvalPrediction

from ...classes.losses import IGNORED
from ..models import model_and_wrapped
from .metrics import Counts, MeanIouMetric
from .pixels import ignored_label, targets_of_masks, upsampled


def segmentation_compute_metrics(
    model: torch.nn.Module, **options: Any
) -> Callable[[EvalPrediction, bool], dict[str, float]]:
    """A `compute_metrics` for the Trainer: mean IoU and accuracies, from counts that are summed batch by batch.

    Pass `batch_eval_metrics=True` in the training arguments. Otherwise the Trainer collects the logits of all pixels
    first. Logits are upsampled to the size of the masks, one image at a time. If the Trainer is stopped within an
    evaluation, the next one starts from nothing.

    Args:
        model: the model. It has the number of its classes, their names, and the label of pixels that count for nothing
            in its configuration.
        options: settings of the metric; see `MeanIouMetric`. A module of one's own, which has no configuration, needs
            `num_labels`.

    Returns:
        A function that gives `mean_iou`, `mean_accuracy`, `overall_accuracy`, and for each class `iou_road` and
        `accuracy_road`, say, 0 to 1; NaN for a class that does not occur.

    Raises:
        ValueError: the number of classes is not known, or the labels would be reduced twice.
    """
    names = _names_of(model)
    metric = MeanIouMetric(**{"num_labels": len(names) or None, "ignore_index": IGNORED} | options)
    if metric.num_labels is None or len(names) not in (0, metric.num_labels):
        raise ValueError(
            f"num_labels={metric.num_labels} does not tell the classes of model={type(model).__name__}, whose "
            f"configuration has {len(names)}: pass the number of its logits as num_labels="
        )
    metric.require_own_labels()
    ignored, counted, loader = ignored_label(model), [], lambda: None

    def compute_metrics(prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        nonlocal loader
        active = GradientState().active_dataloader
        if active is not loader() and len(
            prediction.label_ids
        ):  # what was counted is of an evaluation that was stopped
            counted.clear()
            loader = (lambda: None) if active is None else weakref.ref(active)
        outputs = prediction.predictions
        outputs = torch.as_tensor(outputs[0] if isinstance(outputs, tuple) else outputs)
        masks = targets_of_masks(torch.as_tensor(prediction.label_ids), ignored)
        for image, mask in zip(outputs, masks, strict=True):
            counted.append(_counts(metric, image, mask))
        if not compute_result:
            counted[:] = [sum(counted[1:], counted[0])] if counted else []
            return {}
        result = metric.of_counts(sum(counted[1:], counted[0]))
        counted.clear()
        found = {name: float(result[name][0]) for name in ("mean_iou", "mean_accuracy", "overall_accuracy")}
        for short in ("iou", "accuracy"):
            of_classes = result[f"per_category_{short}"][0].tolist()
            of_names = names or range(len(of_classes))
            found |= {f"{short}_{name}": value for name, value in zip(of_names, of_classes, strict=True)}
        return found

    return compute_metrics


def _counts(metric: MeanIouMetric, image: Tensor, mask: Tensor) -> Counts:
    """Of one image: logits, `(C, h, w)`, or classes at the size of the mask."""
    if image.ndim == 3:
        image = upsampled(image.unsqueeze(0), mask.shape)[0].argmax(-1)
    elif image.shape != mask.shape:
        raise ValueError(
            f"predictions of the shape {tuple(image.shape)} do not fit a mask of the shape {tuple(mask.shape)}: let "
            "preprocess_logits_for_metrics keep the logits, or upsample them to the size of the mask first"
        )
    known = mask != IGNORED
    return metric.counts(*(values[known].unsqueeze(0).cpu().numpy() for values in (image, mask)))


def _names_of(model: torch.nn.Module) -> list[str]:
    """The names of the classes, in the order of their numbers; empty if the model has no configuration."""
    for module in model_and_wrapped(model):
        names = getattr(getattr(module, "config", None), "id2label", None)
        if names:
            return [str(names[number]) for number in sorted(names, key=int)]
    return []
