"""Stick figures that need no download: people of varied build, over clutter, some of them half hidden.

They look at us, so their left is on the right of the picture. Each kind of limb has its own colour, the same left and
right. Joints are those of Leeds Sports Poses. A joint that something hides is not labelled. The data are deterministic.
"""

import io
from collections.abc import Sequence

import datasets
import numpy as np
from PIL import Image, ImageDraw

SIDE = 64  # pixels of an image
NAMES = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
)  # fmt: skip
LIMBS = (
    ("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("left_ankle", "left_knee"), ("left_knee", "left_hip"),
    ("right_wrist", "right_elbow"), ("right_elbow", "right_shoulder"), ("left_wrist", "left_elbow"),
    ("left_elbow", "left_shoulder"), ("right_shoulder", "neck"), ("left_shoulder", "neck"), ("right_hip", "left_hip"),
    ("right_hip", "right_shoulder"), ("left_hip", "left_shoulder"), ("neck", "head_top"),
)  # fmt: skip
_CLUTTER = 8  # shapes behind a figure
_HIDDEN = 0.6  # how often something stands in front of a figure
# Of the limb that ends at a joint, the outermost first; a figure is tinted, so that its colours differ a little.
_COLOURS = {
    "ankle": (220, 60, 60), "knee": (230, 140, 40), "wrist": (60, 90, 220), "elbow": (60, 200, 210),
    "head": (220, 190, 150), "shoulder": (70, 180, 70), "hip": (150, 70, 190),
}  # fmt: skip


def load(train: int = 2500, validation: int = 300, test: int = 800, seed: int = 0) -> datasets.DatasetDict:
    """Columns `image`, `keypoints` and `visible`."""
    draw, found = np.random.default_rng(seed), {}
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "keypoints": datasets.Sequence(datasets.Sequence(datasets.Value("float32"))),
            "visible": datasets.Sequence(datasets.Value("bool")),
        }
    )
    for split, size in {"train": train, "validation": validation, "test": test}.items():
        found[split] = datasets.Dataset.from_list([_row(draw) for _ in range(size)], features=features)
    return datasets.DatasetDict(found)


def _row(draw: np.random.Generator) -> dict:
    joints = _joints(draw)
    image = Image.new("RGB", (SIDE, SIDE), _colour(draw))
    brush = ImageDraw.Draw(image)
    for _ in range(draw.integers(_CLUTTER // 2, _CLUTTER + 1)):
        _shape(draw, brush)
    _figure(draw, brush, joints)
    visible = np.array([(joints[name] >= 0).all() and (joints[name] <= SIDE - 1).all() for name in NAMES])
    if draw.random() < _HIDDEN:
        corner, sides = draw.uniform(0, SIDE, 2), draw.uniform(8, 22, 2)
        brush.rectangle([*corner, *(corner + sides)], fill=_colour(draw))
        places = np.array([joints[name] for name in NAMES])
        visible &= ~((places >= corner) & (places <= corner + sides)).all(1)
    stored = io.BytesIO()
    image.save(stored, "PNG")
    keypoints = [joints[name].round(2).tolist() for name in NAMES]
    return {"image": {"bytes": stored.getvalue(), "path": None}, "keypoints": keypoints, "visible": visible.tolist()}


def _joints(draw: np.random.Generator) -> dict[str, np.ndarray]:
    """`(x, y)` by name: from the hips upwards, along limbs at random angles."""
    size, lean = draw.uniform(9, 13), draw.normal(0, 0.35)
    width, leg, arm = draw.uniform(0.3, 0.5), draw.uniform(0.75, 1.05), draw.uniform(0.6, 0.85)
    up, right = _direction(lean), _direction(lean + np.pi / 2)
    hips = np.array([SIDE / 2, 0.55 * SIDE]) + draw.normal(0, 3, 2)
    neck = hips + 1.25 * size * up
    found = {"neck": neck, "head_top": neck + 0.75 * size * _direction(lean + draw.normal(0, 0.2))}
    for side, sign in (("left", 1), ("right", -1)):
        hip, shoulder = hips + sign * width * size * right, neck + sign * (width + 0.15) * size * right
        knee = hip + leg * size * _direction(lean + np.pi - sign * abs(draw.normal(0.15, 0.45)))
        thigh = np.arctan2(*(knee - hip) * [1, -1])
        elbow = shoulder + arm * size * _direction(lean + np.pi - sign * draw.uniform(-0.2, 2.6))
        upper = np.arctan2(*(elbow - shoulder) * [1, -1])
        found |= {
            f"{side}_hip": hip,
            f"{side}_shoulder": shoulder,
            f"{side}_knee": knee,
            f"{side}_elbow": elbow,
            f"{side}_ankle": knee + leg * size * _direction(thigh + sign * abs(draw.normal(0, 0.4))),
            f"{side}_wrist": elbow + arm * size * _direction(upper + draw.normal(0, 0.9)),
        }
    return found


def _figure(draw: np.random.Generator, brush: ImageDraw.ImageDraw, joints: dict[str, np.ndarray]) -> None:
    tint, thickness = draw.integers(-25, 26, 3), int(draw.integers(2, 5))
    colours = {part: tuple((np.array(colour) + tint).tolist()) for part, colour in _COLOURS.items()}
    for first, second in LIMBS:
        part = next(part for part in colours if part in first + second)
        brush.line([tuple(joints[first]), tuple(joints[second])], fill=colours[part], width=thickness)
    top, neck = joints["head_top"], joints["neck"]
    middle, radius = (top + neck) / 2, np.linalg.norm(top - neck) / 2
    brush.ellipse([*(middle - radius), *(middle + radius)], fill=colours["head"])


def _shape(draw: np.random.Generator, brush: ImageDraw.ImageDraw) -> None:
    start, colour = draw.uniform(-8, SIDE, 2), _colour(draw)
    if draw.random() < 0.6:
        brush.line([*start, *(start + draw.normal(0, 16, 2))], fill=colour, width=int(draw.integers(1, 5)))
    else:
        brush.ellipse([*start, *(start + draw.uniform(3, 14, 2))], fill=colour)


def _direction(angle: float) -> np.ndarray:
    """The unit vector at an angle to the upright, clockwise as we see it; y points down."""
    return np.array([np.sin(angle), -np.cos(angle)])


def _colour(draw: np.random.Generator) -> tuple[int, ...]:
    return tuple(draw.integers(20, 236, 3).tolist())


def limbs_of(names: Sequence[str]) -> list[tuple[int, int]]:
    """The numbers of the joints that a limb connects, as far as the names are known."""
    places = {name: place for place, name in enumerate(names)}
    return [(places[first], places[second]) for first, second in LIMBS if first in places and second in places]
