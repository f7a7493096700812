"""Plots losses against the metric. Needs matplotlib."""

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..report import HeldOutGroups, LearningReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_COLUMNS = 3


@dataclass
class Panel:
    """One loss on some groups. `losses` has shape `(groups,)`."""

    name: str
    losses: Tensor
    title: str


def plot_held_out(groups: HeldOutGroups, report: LearningReport, base_loss_name: str = "cross-entropy") -> "Figure":
    """Plot the metric of held-out groups against the loss before the switch and against the surrogate."""
    same = report.same_examples
    base, own = (
        spearman_title(overall, None if same else within)
        for overall, within in (
            (report.spearman_cross_entropy, report.spearman_cross_entropy_within),
            (report.spearman, report.spearman_within),
        )
    )
    panels = [Panel(base_loss_name, groups.cross_entropy, base), Panel(report.surrogate, groups.surrogate, own)]
    words = (" of a candidate", "set of examples") if same else ()
    return plot_against_metric(panels, groups.metric, groups.candidates, report.metric, *words)


def spearman_title(overall: float, within: float | None = None) -> str:
    return f"Spearman {overall:.3f}" + ("" if within is None else f", within a candidate {within:.3f}")


def plot_against_metric(
    panels: list[Panel],
    metric: Tensor,
    candidates: Tensor,
    metric_name: str,
    of: str = " of a group",
    colours: str = "candidate, early to late",
) -> "Figure":
    """Plot the metric of groups against each of several losses, with a colour for each candidate.

    Args:
        panels: the losses to draw, one in each panel.
        metric: the metric of the groups, shape `(groups,)`; higher is better.
        candidates: the candidate that made the predictions of each group, shape `(groups,)`.
        metric_name: the name of the metric for the axis.
        of: the meaning of a point, which follows the names on the axes.
        colours: the meaning of the colours.
    """
    rows, columns = grid(len(panels))
    figure = new_figure(3.7 * columns + 0.8, 3.4 * rows)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, panel in zip(axes.flat, panels, strict=False):
        points = axis.scatter(panel.losses, metric, c=candidates, s=12, alpha=0.8, linewidths=0, cmap="viridis")
        axis.set_xlabel(f"{panel.name}{of}")
        axis.set_title(panel.title, fontsize="medium")
        axis.grid(alpha=0.25)
    for axis in axes[:, 0]:
        axis.set_ylabel(f"{metric_name}{of}")
    if len(candidates.unique()) > 1:
        figure.colorbar(points, ax=list(axes.flat[: len(panels)]), label=colours)
    return figure


def to_png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140, metadata={"Software": None})
    return buffer.getvalue()


def grid(panels: int) -> tuple[int, int]:
    """The numbers of rows and columns for so many panels."""
    rows = math.ceil(panels / _MOST_COLUMNS)
    return rows, math.ceil(panels / rows)


def new_figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'reloss_hf[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained")
