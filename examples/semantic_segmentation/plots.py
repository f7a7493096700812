"""Shows what several models see in images."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch

_VOID = (1.0, 1.0, 1.0)


def plot_masks(images: Sequence[np.ndarray], masks: dict[str, Sequence[np.ndarray]], names: Sequence[str]) -> Figure:
    """Draw a row for each image: the image, and its masks.

    Args:
        images: red, green and blue of each pixel, 0 to 255, of shape `(height, width, 3)` each.
        masks: classes, of shape `(height, width)` each, for each image, by the titles of their columns. A negative
            class, or one beyond the names, is left white.
        names: the names of the classes.
    """
    table = colormaps["tab20" if len(names) > 10 else "tab10"].colors
    colours = np.array([*(table[number % len(table)] for number in range(len(names))), _VOID])
    figure = Figure(figsize=(2.4 * (1 + len(masks)), 1.9 * len(images) + 0.5), layout="constrained")
    axes = figure.subplots(len(images), 1 + len(masks), squeeze=False)
    for row, image in zip(range(len(images)), images, strict=True):
        columns = {"image": image} | {title: _coloured(found[row], colours) for title, found in masks.items()}
        for axis, (title, picture) in zip(axes[row], columns.items(), strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
            if row == 0:
                axis.set_title(title)
    patches = [Patch(color=colours[number], label=name) for number, name in enumerate(names)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(8, len(names)), frameon=False)
    return figure


def _coloured(mask: np.ndarray, colours: np.ndarray) -> np.ndarray:
    last = len(colours) - 1
    return colours[np.where((mask >= 0) & (mask < last), mask, last)]
