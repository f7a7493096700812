"""Street scenes that need no download: thin poles, small figures and wires in front of large areas, drawn with numpy.

Posts of fences and trunks of trees look much like poles, bushes like figures, and branches like wires, so small things
are easily missed. An ignored border has the label 255. The scenes are deterministic.
"""

import io

import datasets
import numpy as np
from PIL import Image

NAMES = ("sky", "wall", "ground", "tree", "pole", "figure", "wire")
VOID = 255
HEIGHT, WIDTH = 48, 64
_BORDER, _THICK = 1, 2
# Mean colours of the classes, and of what looks like the small ones.
_COLOURS = {
    "sky": (150, 170, 200),
    "wall": (140, 110, 100),
    "ground": (105, 105, 105),
    "tree": (70, 100, 60),
    "pole": (75, 65, 55),
    "figure": (170, 60, 80),
    "wire": (60, 60, 75),
}
_NOISE = 18.0


def load(train: int = 400, validation: int = 80, test: int = 160, seed: int = 0) -> datasets.DatasetDict:
    """Columns `image` and `label`, a mask of the numbers of the classes."""
    draw = np.random.default_rng(seed)
    sizes = {"train": train, "validation": validation, "test": test}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Image()})
    splits = {}
    for split, size in sizes.items():
        pairs = [_scene(draw) for _ in range(size)]
        columns = {name: [_png(pair[side]) for pair in pairs] for side, name in enumerate(("image", "label"))}
        splits[split] = datasets.Dataset.from_dict(columns, features=features)
    return datasets.DatasetDict(splits)


def _scene(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image, `(48, 64, 3)`, and its mask, `(48, 64)`, both uint8."""
    mask, shown = np.zeros((HEIGHT, WIDTH), dtype=np.uint8), np.zeros((HEIGHT, WIDTH, 3), dtype=np.float64)

    def paint(where, name: str, looks: str | None = None) -> None:
        mask[where] = NAMES.index(name)
        shown[where] = np.array(_COLOURS[looks or name]) + draw.normal(0, 10, 3)

    horizon = int(draw.integers(26, 36))
    paint(np.s_[:], "sky")
    for left in draw.integers(0, WIDTH - 12, draw.integers(1, 4)):
        paint(np.s_[draw.integers(8, 22) : horizon, left : left + draw.integers(10, 26)], "wall")
    paint(np.s_[horizon:], "ground")
    for left in draw.integers(0, WIDTH - 10, draw.integers(0, 3)):
        top, wide = draw.integers(10, 24), draw.integers(6, 12)
        paint(np.s_[top : top + wide, left : left + wide], "tree")
        paint(np.s_[top + wide : horizon + 3, left + wide // 2 : left + wide // 2 + _THICK], "tree", "pole")
    for _ in range(draw.integers(1, 4)):
        height = draw.integers(0, 20)
        sags = (height + 2 * np.sin(np.linspace(0, np.pi, WIDTH) + draw.uniform(0, 2))).astype(int)
        start = draw.integers(0, WIDTH // 3)
        part = np.arange(start, draw.integers(start + 12, WIDTH))
        where = (sags[part] + np.arange(_THICK)[:, None]).clip(0, HEIGHT - 1), part
        paint(where, *(("wire",) if draw.random() < 0.55 else ("sky", "wire")))
    for _ in range(draw.integers(1, 5)):
        place, foot = draw.integers(2, WIDTH - 4), horizon + draw.integers(0, 8)
        if draw.random() < 0.5:
            paint(np.s_[draw.integers(4, 18) : foot, place : place + _THICK], "pole")
        else:
            paint(np.s_[foot - draw.integers(5, 10) : foot, place : place + _THICK], "wall", "pole")
    for _ in range(draw.integers(1, 5)):
        place, foot = draw.integers(2, WIDTH - 7), horizon + draw.integers(1, 10)
        tall, wide = draw.integers(7, 12), draw.integers(3, 6)
        figure = draw.random() < 0.45
        paint(np.s_[foot - tall : foot, place : place + wide], "figure" if figure else "tree", "figure")
    shown += draw.normal(0, _NOISE, shown.shape)
    for edge in (np.s_[:_BORDER], np.s_[-_BORDER:], np.s_[:, :_BORDER], np.s_[:, -_BORDER:]):
        mask[edge] = VOID
    return shown.clip(0, 255).astype(np.uint8), mask


def _png(pixels: np.ndarray) -> dict:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}
