"""Evaluates models of poses."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import EvalPrediction

from .heatmaps import decode_poses
from .joints import Pairs
from .metrics import CorrectKeypoints, KeypointSimilarity, references_of


def pose_compute_metrics(
    size: tuple[int, int],
    threshold: float = 0.2,
    normalise_by: str = "torso",
    torso: Pairs | None = None,
    head: Pairs | None = None,
    sigmas: Sequence[float] | None = None,
) -> Callable[[EvalPrediction], dict[str, float]]:
    """A `compute_metrics` for the Trainer: PCK, OKS and the mean AP of each image; see `KeypointSimilarity`.

    The Trainer keeps all heatmaps until the end, 4 bytes for each pixel. To keep places alone, pass the Trainer
    `preprocess_logits_for_metrics=lambda heatmaps, labels: decode_poses(heatmaps, size)`.

    Args:
        size: height and width of the model's input in pixels.
        threshold: see `CorrectKeypoints`, also for the next three.
        normalise_by: the size of a person.
        torso: the joints of the torso.
        head: the joints of the head.
        sigmas: see `KeypointSimilarity`.

    Returns:
        A function that gives `pck`, `oks`, `ap`, `ap_50` and `ap_75`, from 0 to 1.
    """
    pck, oks = CorrectKeypoints(threshold, normalise_by, torso, head), KeypointSimilarity(sigmas)

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        outputs = prediction.predictions
        outputs = torch.as_tensor(np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs))
        poses = (decode_poses(outputs, size) if outputs.ndim == 4 else outputs).numpy()
        references = references_of(*_gold(prediction.label_ids, size))
        return {"pck": pck(poses, references)} | oks(poses, references)

    return compute_metrics


def _gold(labels: np.ndarray | tuple[np.ndarray, ...], size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """The arguments of `references_of`, also if the labels are heatmaps and their weights."""
    if isinstance(labels, tuple) and labels[0].ndim == 3:
        return labels
    heatmaps, *weights = labels if isinstance(labels, tuple) else (labels,)
    visible = heatmaps.max((2, 3)) > 0
    for given in weights:
        visible &= given.reshape(*visible.shape, -1).max(2) > 0
    return decode_poses(torch.as_tensor(heatmaps), size).numpy(), visible
