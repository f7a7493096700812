"""Draws poses that several models predict."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

# A dark edge, so that limbs are seen on any ground.
_EDGE = [Stroke(linewidth=3.2, foreground="black"), Normal()]


def plot_skeletons(
    images: Sequence[np.ndarray],
    gold: Sequence[np.ndarray],
    visible: Sequence[np.ndarray],
    poses: dict[str, Sequence[np.ndarray]],
    limbs: Sequence[tuple[int, int]],
) -> Figure:
    """A row for each image. The columns are the gold pose, as far as it is labelled, and the pose of each model. White
    dots are the labelled joints.

    Args:
        images: pixels from 0 to 1, `(height, width, 3)`.
        gold: `(x, y)` of the joints.
        visible: whether a joint is labelled.
        poses: predicted `(x, y)`, by the name of the model.
        limbs: pairs of joints.
    """
    labelled = [np.where(known[:, None], places, np.nan) for places, known in zip(gold, visible, strict=True)]
    columns = {"gold": labelled} | poses
    figure = Figure(figsize=(1.5 * len(columns), 1.5 * len(images) + 0.2), layout="constrained")
    grid = figure.subplots(len(images), len(columns), squeeze=False)
    for axis, name in zip(grid[0], columns, strict=True):
        axis.set_title(name.replace("_", " "), fontsize=10)
    for row, image, dots, *of_image in zip(grid, images, labelled, *columns.values(), strict=True):
        for axis, pose in zip(row, of_image, strict=True):
            _draw(axis, image, pose, limbs)
            axis.scatter(*dots.T, s=5, color="white", edgecolors="black", linewidths=0.4, zorder=3)
    return figure


def _draw(axis: Axes, image: np.ndarray, pose: np.ndarray, limbs: Sequence[tuple[int, int]]) -> None:
    axis.imshow(image)
    for number, limb in enumerate(limbs):
        ends = pose[list(limb)]
        axis.plot(ends[:, 0], ends[:, 1], color=f"C{number % 10}", linewidth=1.8, path_effects=_EDGE)
    height, width = image.shape[:2]
    axis.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
