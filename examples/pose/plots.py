"""Draws poses that several models predict."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


def plot_skeletons(
    images: Sequence[np.ndarray],
    gold: Sequence[np.ndarray],
    visible: Sequence[np.ndarray],
    poses: dict[str, Sequence[np.ndarray]],
    limbs: Sequence[tuple[int, int]],
) -> Figure:
    """A column for each image, a row for each model: its limbs in colours, the labelled joints as white dots.

    Args:
        images: pixels from 0 to 1, `(height, width, 3)`.
        gold: `(x, y)` of the joints.
        visible: whether a joint is labelled.
        poses: predicted `(x, y)`, by the name of the model.
        limbs: pairs of joints.
    """
    figure = Figure(figsize=(1.6 * len(images) + 0.5, 1.75 * len(poses)), layout="constrained")
    grid = figure.subplots(len(poses), len(images), squeeze=False)
    for row, (name, of_model) in zip(grid, poses.items(), strict=True):
        row[0].set_ylabel(name.replace("_", " "))
        for axis, image, places, known, pose in zip(row, images, gold, visible, of_model, strict=True):
            axis.imshow(image)
            for number, (first, second) in enumerate(limbs):
                ends = pose[[first, second]]
                axis.plot(ends[:, 0], ends[:, 1], color=f"C{number % 10}", linewidth=1.8)
            axis.scatter(*places[known].T, s=7, color="white", edgecolors="black", linewidths=0.5, zorder=3)
            height, width = image.shape[:2]
            axis.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return figure
