"""The metrics of poses: the share of right joints, and the similarity of COCO.

A prediction is `(x, y)` of each joint. A reference is a dict:

| key | value |
|---|---|
| `keypoints` | `[x, y, v]` of each joint; `v` is 0 for a joint that is not labelled |
| `box` | width and height of the person |
| `area` | area of the person |

All are in pixels of the model's input.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...learning.calling import VectorisedMetric
from ..base import NamedMetric
from .joints import COCO_SIGMAS, Pairs, head_of, torso_of

# Of joints whose deviation is unknown, as of CrowdPose and OCHuman.
_SIGMA = 0.05
# The area of a person, as a share of the box, where no mask tells it.
SHARE_OF_BOX = 0.53
_THRESHOLDS = np.linspace(0.5, 0.95, 10)


def references_of(
    keypoints: np.ndarray, visible: np.ndarray, boxes: np.ndarray | None = None, areas: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """References in the format of the metrics.

    Args:
        keypoints: `(x, y)`, shape `(n, joints, 2)`.
        visible: whether a joint is labelled, shape `(n, joints)`.
        boxes: width and height of the persons, shape `(n, 2)`. None takes the box around the visible joints.
        areas: the areas of the persons, shape `(n,)`. None is 0.53 of the box, as in mmpose.
    """
    keypoints, visible = np.asarray(keypoints, dtype=float), np.asarray(visible).astype(bool)
    keypoints = np.where(visible[..., None], keypoints, 0.0)
    if not np.isfinite(keypoints).all():
        raise ValueError("keypoints of visible joints are not finite: set 'visible' to 0 for joints without a place")
    if boxes is None:
        highest = np.where(visible[..., None], keypoints, -np.inf).max(1)
        boxes = highest - np.where(visible[..., None], keypoints, np.inf).min(1)
        boxes = np.where(visible.any(1)[:, None], boxes, 0.0)
    boxes = np.asarray(boxes, dtype=float)
    areas = SHARE_OF_BOX * boxes.prod(1) if areas is None else np.asarray(areas, dtype=float)
    labelled = np.concatenate([keypoints, visible[..., None]], 2)
    return [
        {"keypoints": places, "box": box, "area": area}
        for places, box, area in zip(labelled.tolist(), boxes.tolist(), areas.tolist(), strict=True)
    ]


class PoseMetric(VectorisedMetric):
    """Base of the metrics of poses."""

    def __call__(self, predictions: list, references: list) -> Any:
        scores = self.scores(np.asarray(predictions)[None], np.array(references, dtype=object)[None])
        return {key: float(value[0]) for key, value in scores.items()} if isinstance(scores, dict) else float(scores[0])

    def scores(self, predictions: np.ndarray, references: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        flat, shape = references.ravel().tolist(), references.shape
        if not isinstance(flat[0], dict) or "keypoints" not in flat[0]:
            raise ValueError(
                f"a reference is {str(flat[0])[:80]}, and not a dict of 'keypoints', 'box' and 'area': pass the result "
                "of references_of"
            )
        gold = np.array([row["keypoints"] for row in flat]).reshape(*shape, -1, 3)
        predictions = predictions.astype(float)
        if predictions.shape != (*gold.shape[:3], 2):
            raise ValueError(
                f"predictions of the shape {predictions.shape[1:]} do not fit the {gold.shape[2]} joints of references "
                f"of the shape {gold.shape[1:]}: pass (x, y) of each joint"
            )
        distances = np.linalg.norm(predictions - gold[..., :2], axis=-1)
        boxes = np.array([row["box"] for row in flat]).reshape(*shape, 2)
        areas = np.array([row["area"] for row in flat]).reshape(shape)
        return self.of_distances(distances, gold[..., :2], gold[..., 2] > 0, boxes, areas)

    @abstractmethod
    def of_distances(
        self, distances: np.ndarray, gold: np.ndarray, visible: np.ndarray, boxes: np.ndarray, areas: np.ndarray
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Scores of groups; all arguments begin with the dimensions `(groups, size)`."""


class CorrectKeypoints(PoseMetric):
    """PCK, the percentage of correct keypoints, from 0 to 1: the share of the labelled joints that are found no farther
    away than `threshold` times the size of the person. Persons whose size is not known do not count.

    Args:
        threshold: 0.2 and 0.1 are usual for the torso, 0.5 for the head (PCKh).
        normalise_by: the size of a person: `"torso"`, the distance of `torso`; `"head"`, that of `head`; or `"box"`,
            the longer side of the box.
        torso: pairs of joints; the mean distance of those that are labelled counts. By default these are the diagonals
            from a shoulder to the other hip, of 14 joints (Leeds Sports Poses) and of 17 (COCO).
        head: likewise. By default these are the neck and the top of the head of 14 joints, and the ears of 17.

    References:
        Yang and Ramanan, *Articulated Human Detection with Flexible Mixtures of Parts*, PAMI 2013.

    Raises:
        ValueError: an argument is out of range, or the joints of the torso or the head are unknown.
    """

    name = "pck"

    def __init__(
        self,
        threshold: float = 0.2,
        normalise_by: str = "torso",
        torso: Pairs | None = None,
        head: Pairs | None = None,
    ):
        if threshold <= 0:
            raise ValueError(f"threshold={threshold} must be above 0")
        if normalise_by not in ("torso", "head", "box"):
            raise ValueError(f"normalise_by={normalise_by!r} must be 'torso', 'head' or 'box'")
        for name, pairs in (("torso", torso), ("head", head)):
            if pairs is not None and (not len(pairs) or any(not _is_pair(pair) for pair in pairs)):
                raise ValueError(f"{name}={pairs} must be pairs of the numbers of joints, such as [(2, 9)]")
        self.threshold, self.normalise_by, self.torso, self.head = threshold, normalise_by, torso, head

    def of_distances(self, distances, gold, visible, boxes, areas) -> np.ndarray:
        sizes = boxes.max(-1) if self.normalise_by == "box" else self._lengths(gold, visible)
        counted = visible & (sizes > 0)[..., None]
        right = counted & (distances <= self.threshold * sizes[..., None])
        return _ratio(right.sum((1, 2)), counted.sum((1, 2)))

    def _lengths(self, gold: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """The mean length of the pairs that are labelled, 0 if none is, shape `(groups, size)`."""
        joints = gold.shape[2]
        given, known = (self.torso, torso_of) if self.normalise_by == "torso" else (self.head, head_of)
        pairs = known(joints) if given is None else given
        if pairs is None:
            raise ValueError(
                f"the {self.normalise_by} of {joints} joints is unknown: pass metric_options="
                f"{{{self.normalise_by!r}: [(first, second)]}}, the numbers of its joints, or normalise_by='box'"
            )
        if any(place >= joints for pair in pairs for place in pair):
            raise ValueError(f"{self.normalise_by}={pairs} names joints beyond the {joints} of the references")
        first, second = np.array(pairs).T
        known = visible[..., first] & visible[..., second]
        lengths = np.linalg.norm(gold[..., first, :] - gold[..., second, :], axis=-1)
        return (known * lengths).sum(-1) / np.maximum(known.sum(-1), 1)


class KeypointSimilarity(PoseMetric):
    """OKS, COCO's object keypoint similarity, from 0 to 1: `exp(-d² / (2 · area · (2 sigma)²))` of each labelled joint,
    the mean over joints and then over persons.

    The result has the keys `oks`; `ap_50` and `ap_75`, the shares of persons with an OKS of at least 0.5 and 0.75; and
    `ap`, the mean share over the thresholds 0.5, 0.55, ..., 0.95. It is the mean of COCO's average precision of each
    image, with one person and one prediction. COCO's own number for many images is at most as high, because it also
    ranks the predictions of all images by their confidence.

    Args:
        sigmas: the deviation of what people mark, for each joint, as a share of the square root of the area. By default
            those of COCO for 17 joints, 0.05 for others.

    Raises:
        ValueError: a sigma is not above 0, or there are not as many sigmas as joints.
    """

    name = "oks"

    def __init__(self, sigmas: Sequence[float] | None = None):
        if sigmas is not None and not all(sigma > 0 for sigma in sigmas):
            raise ValueError(f"sigmas={list(sigmas)} must all be above 0")
        self.sigmas = sigmas

    def of_distances(self, distances, gold, visible, boxes, areas) -> dict[str, np.ndarray]:
        joints = distances.shape[2]
        sigmas = self.sigmas
        if sigmas is None:
            sigmas = COCO_SIGMAS if joints == len(COCO_SIGMAS) else [_SIGMA] * joints
        if len(sigmas) != joints:
            raise ValueError(f"there are {len(sigmas)} sigmas for {joints} joints: pass one for each joint")
        spreads = (2 * np.asarray(sigmas)) ** 2 * (areas[..., None] + np.spacing(1))
        similar = (visible * np.exp(-(distances**2) / spreads / 2)).sum(-1) / np.maximum(visible.sum(-1), 1)
        persons = visible.any(-1)
        counts = persons.sum(1)
        reached = {limit: _ratio((persons & (similar >= limit)).sum(1), counts) for limit in _THRESHOLDS}
        return {
            "oks": _ratio((persons * similar).sum(1), counts),
            "ap": np.mean(list(reached.values()), 0),
            "ap_50": reached[_THRESHOLDS[0]],
            "ap_75": reached[_THRESHOLDS[5]],
        }


def _is_pair(pair: Any) -> bool:
    return np.shape(pair) == (2,) and all(isinstance(place, int | np.integer) and place >= 0 for place in pair)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN where nothing counts."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


METRICS = {"pck": NamedMetric(CorrectKeypoints), "oks": NamedMetric(KeypointSimilarity, main_key="oks")}
