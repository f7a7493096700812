"""Images, boxes and keypoints as the input of a model of poses.

>>> train = prepare_pose_features(data["train"], processor, augment=True)
>>> validation = prepare_pose_features(data["validation"], processor)
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .joints import Pairs, left_and_right, mirrored_order, names_of_joints
from .metrics import SHARE_OF_BOX

# Standard deviation of the Gaussian targets in pixels of the heatmap, if nothing else is said.
SIGMA = 2.0
# Of the box around a person, as `VitPoseImageProcessor` has it.
_PADDING = 1.25
# How far random changes go: the share of mirrored images, the scale, and the rotation in degrees, as in mmpose.
_MIRRORED, _SCALE, _ROTATION, _ROTATED = 0.5, 0.25, 40.0, 0.6


def prepare_pose_features(
    rows: Sequence[Mapping[str, Any]],
    processor: Any = None,
    *,
    size: tuple[int, int] | None = None,
    augment: bool = False,
    names: Sequence[str] | None = None,
    flip_pairs: Pairs | None = None,
    sigma: float = SIGMA,
) -> "PoseDataset":
    """The person of each row, cut out, and its joints in pixels of the model's input.

    Args:
        rows: a `datasets.Dataset`, or another sequence of rows, with these columns:
            `image`: an image of PIL, an array, the path of a file, or the dict of `bytes` that `datasets` stores;
            `keypoints`: `(x, y)` of each joint in pixels of the image, or COCO's `(x, y, v)`, flat or in rows;
            `visible`: whether a joint is labelled, if `keypoints` has no `v`; by default all are;
            `bbox`: COCO's left, top, width and height, which is widened by a quarter; by default the whole image, and
            for metrics the box around the visible joints;
            `area`: the area of the person in pixels of the image, beside `bbox`; by default 0.53 of the box;
            `dataset_index`: the expert of VitPose++, if it has experts.
        processor: the image processor of the model. It gives the size and the normalisation.
        size: height and width of the input. None takes those of the processor.
        augment: whether to mirror, scale and rotate at random, for training. A slice that the trainer holds out is
            never augmented.
        names: the names of the joints. None takes those of 14 joints (Leeds Sports Poses) or 17 (COCO).
        flip_pairs: the numbers of left and right joints, to exchange them in mirrored images. None takes the joints
            whose names differ in `left` and `right`, or `L_` and `R_`.
        sigma: standard deviation of the Gaussian targets in pixels of the heatmap.

    Returns:
        A data set whose rows have the tensors `pixel_values`, `keypoints`, `visible` and `heatmap_sigma`; `box` and
        `area` if the rows have `bbox`; and `dataset_index` if they have it.

    Raises:
        ValueError: a column is missing or of a wrong shape, the size is unknown, or left and right are unknown.
    """
    if not len(rows):
        raise ValueError("rows is empty: pass rows with the columns image and keypoints")
    missing = [name for name in ("image", "keypoints") if name not in rows[0]]
    if missing:
        raise ValueError(f"rows have no columns {missing}, only {sorted(rows[0])}: rename or add them")
    if size is None and processor is None:
        raise ValueError("size=None and processor=None, so the size of the input is unknown: pass one of them")
    if sigma <= 0:
        raise ValueError(f"sigma={sigma} must be above 0")
    if size is None:
        size = processor.size["height"], processor.size["width"]
    mean, deviation = (0.0,) * 3, (1.0,) * 3
    if processor is not None and processor.do_normalize:
        mean, deviation = processor.image_mean, processor.image_std
    joints = len(_keypoints(rows[0], 0)[0])
    if names is not None and len(names) != joints:
        raise ValueError(f"there are {len(names)} names, but {joints} joints in row 0: pass a name for each joint")
    if flip_pairs is None:
        flip_pairs = left_and_right(names_of_joints(joints) if names is None else names)
        if augment and not flip_pairs:
            raise ValueError(
                f"flip_pairs=None, and left and right of {joints} joints are unknown: pass names=, or the pairs of "
                "their numbers, or flip_pairs=[] if no joint has a side"
            )
    order = mirrored_order(flip_pairs, joints)
    return PoseDataset(rows, size, np.array(mean), np.array(deviation), order, sigma, augment)


class PoseDataset(Dataset):
    """The result of `prepare_pose_features`. Images are read when they are asked for.

    Args:
        rows: see `prepare_pose_features`.
        size: height and width of the input.
        mean: of each channel, where white is 1.
        deviation: of each channel.
        order: the order of the joints in a mirrored image.
        sigma: see `prepare_pose_features`.
        augment: whether to change images at random.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        size: tuple[int, int],
        mean: np.ndarray,
        deviation: np.ndarray,
        order: list[int],
        sigma: float,
        augment: bool,
    ):
        self.rows, self.size, self.mean, self.deviation = rows, tuple(size), mean, deviation
        self.order, self.sigma, self.augment = order, sigma, augment

    def __len__(self) -> int:
        return len(self.rows)

    def without_augmentation(self) -> "PoseDataset":
        """The same without random changes."""
        return PoseDataset(self.rows, self.size, self.mean, self.deviation, self.order, self.sigma, False)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        row = self.rows[number]
        image = _image(row["image"], number)
        keypoints, visible = _keypoints(row, number)
        if len(keypoints) != len(self.order):
            raise ValueError(
                f"row {number} has {len(keypoints)} joints, but row 0 has {len(self.order)}: all rows need the same"
            )
        matrix, scale = self._map(row, number, image)
        if self.augment and torch.rand(()) < _MIRRORED:
            matrix[0] = -matrix[0]
            matrix[0, 2] += self.size[1] - 1
            keypoints, visible = keypoints[self.order], visible[self.order]
        pixels = _cut(image, matrix, self.size)
        return {
            "pixel_values": torch.from_numpy(((pixels / 255 - self.mean) / self.deviation).transpose(2, 0, 1)).float(),
            "keypoints": torch.from_numpy(keypoints @ matrix[:, :2].T + matrix[:, 2]).float(),
            "visible": torch.from_numpy(visible),
        } | self._more(row, scale)

    def _map(self, row: Mapping[str, Any], number: int, image: Any) -> tuple[np.ndarray, float]:
        """The affine map from pixels of the image to those of the input, shape `(2, 3)`, and its scale."""
        height, width = self.size
        centre, side = np.array([image.width - 1, image.height - 1]) / 2, np.array([image.width, image.height]) - 1.0
        if row.get("bbox") is not None:
            left, top, wide, high = _box(row, number)
            centre, side = np.array([left + wide / 2, top + high / 2]), _PADDING * np.array([wide, high])
            side = np.maximum(side, side[::-1] * (width / height, height / width))
        factor = np.array([width - 1, height - 1]) / np.maximum(side, 1e-3)
        if self.augment:
            factor = factor / (1 + _SCALE * float(2 * torch.rand(()) - 1))
        angle = 0.0
        if self.augment and torch.rand(()) < _ROTATED:
            angle = math.radians(_ROTATION * float(2 * torch.rand(()) - 1))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = factor[:, None] * turn
        offset = np.array([width - 1, height - 1]) / 2 - linear @ centre
        return np.concatenate([linear, offset[:, None]], 1), float(np.sqrt(factor.prod()))

    def _more(self, row: Mapping[str, Any], scale: float) -> dict[str, Tensor]:
        found = {"heatmap_sigma": torch.tensor(float(self.sigma))}
        if row.get("bbox") is not None:
            box = np.array(row["bbox"][2:], dtype=float)
            area = SHARE_OF_BOX * box.prod() if row.get("area") is None else float(row["area"])
            found |= {"box": torch.from_numpy(scale * box).float(), "area": torch.tensor(scale**2 * area).float()}
        if row.get("dataset_index") is not None:
            found["dataset_index"] = torch.tensor(int(row["dataset_index"]))
        return found


def _image(value: Any, number: int) -> Any:
    """The image of PIL, in colours."""
    from PIL import Image

    if isinstance(value, dict):
        value = value["path"] if value.get("bytes") is None else io.BytesIO(value["bytes"])
    if isinstance(value, str | Path | io.BytesIO):
        value = Image.open(value)
    if not isinstance(value, Image.Image):
        pixels = np.asarray(value)
        if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
            raise ValueError(
                f"the image in row {number} is an array of {pixels.dtype} of the shape {pixels.shape}: pass uint8 of "
                "the shape (height, width, 3), an image of PIL, or a path"
            )
        value = Image.fromarray(pixels)
    return value.convert("RGB")


def _box(row: Mapping[str, Any], number: int) -> np.ndarray:
    """Left, top, width and height."""
    box = np.array(row["bbox"], dtype=float)
    if box.shape != (4,) or not np.isfinite(box).all() or box[2:].min() <= 0:
        raise ValueError(
            f"bbox={box.tolist()} in row {number} must be left, top, width and height, the last two above 0, in pixels "
            "of the image"
        )
    return box


def _keypoints(row: Mapping[str, Any], number: int) -> tuple[np.ndarray, np.ndarray]:
    """`(x, y)` of the joints, and whether they are labelled."""
    values = np.array(row["keypoints"], dtype=float)
    given = row.get("visible")
    if values.ndim == 1 and len(values) % 3 == 0:
        values = values.reshape(-1, 3)
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        raise ValueError(
            f"keypoints of the shape {values.shape} in row {number} are neither (x, y) nor (x, y, v) of each joint: "
            "pass lists of two or three numbers, or COCO's flat list"
        )
    visible = np.ones(len(values), dtype=bool)
    if given is not None:
        visible = np.array(given, dtype=float) > 0
    elif values.shape[1] == 3:
        visible = values[:, 2] > 0
    if visible.shape != (len(values),):
        raise ValueError(
            f"row {number} has {len(values)} joints in 'keypoints', but 'visible' has the shape {visible.shape}"
        )
    if not np.isfinite(values[visible, :2]).all():
        raise ValueError(
            f"row {number} has visible joints whose keypoints are not finite: set 'visible', or COCO's v, to 0 for "
            "joints without a place"
        )
    return np.where(visible[:, None], values[:, :2], 0.0), visible


def _cut(image: Any, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels of the input, interpolated, black outside of the image, float64 of shape `(height, width, 3)`."""
    from PIL import Image

    back = np.linalg.inv(matrix[:, :2])
    # For PIL, the centre of the first pixel is at 0.5.
    offset = 0.5 - back @ (matrix[:, 2] + 0.5)
    coefficients = np.concatenate([back, offset[:, None]], 1).ravel().tolist()
    height, width = size
    moved = image.transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(moved, dtype=float)
