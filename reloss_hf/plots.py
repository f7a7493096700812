"""Pictures of losses: against the metric, and the weight that they give to a probability. They need matplotlib."""

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from .report import HeldOutGroups, LearningReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .weights import WeightCurve

_MOST_COLUMNS = 3
_SHOWN = (0.001, 0.999)
_TICKS = (0.01, 0.1, 0.5, 0.9, 0.99)


@dataclass
class Panel:
    """One loss of some groups: `losses` has shape `(groups,)`."""

    name: str
    losses: Tensor
    title: str


def plot_held_out(groups: HeldOutGroups, report: LearningReport) -> "Figure":
    """The metric of held-out groups against cross-entropy and against the surrogate that was learned."""
    panels = [
        Panel("cross-entropy", groups.cross_entropy, spearman_title(
            report.spearman_cross_entropy, report.spearman_cross_entropy_within
        )),
        Panel(report.surrogate, groups.surrogate, spearman_title(report.spearman, report.spearman_within)),
    ]  # fmt: skip
    return plot_against_metric(panels, groups.metric, groups.candidates, report.metric)


def spearman_title(overall: float, within: float) -> str:
    return f"Spearman {overall:.3f}, within a candidate {within:.3f}"


def plot_against_metric(panels: list[Panel], metric: Tensor, candidates: Tensor, metric_name: str) -> "Figure":
    """The metric of groups against each of several losses, a colour for each candidate that predicted them.

    Args:
        panels: what to draw, one loss in each.
        metric: of the groups, shape `(groups,)`; higher is better.
        candidates: who made the predictions of a group, likewise.
        metric_name: for the axis.
    """
    rows, columns = _grid(len(panels))
    figure = _new_figure(3.7 * columns + 0.8, 3.4 * rows)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, panel in zip(axes.flat, panels, strict=False):
        points = axis.scatter(panel.losses, metric, c=candidates, s=12, alpha=0.8, linewidths=0, cmap="viridis")
        axis.set_xlabel(f"{panel.name} of a group")
        axis.set_title(panel.title, fontsize="medium")
        axis.grid(alpha=0.25)
    for axis in axes[:, 0]:
        axis.set_ylabel(f"{metric_name} of the group")
    if len(candidates.unique()) > 1:
        figure.colorbar(points, ax=list(axes.flat[: len(panels)]), label="candidate, early to late")
    return figure


def plot_weights(curves: dict[str, "WeightCurve"]) -> "Figure":
    """The weight of a target against its probability, one panel for each loss; below zero is shaded."""
    rows, columns = _grid(len(curves))
    figure = _new_figure(3.7 * columns + 0.8, 2.9 * rows)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis in axes.flat[len(curves) :]:
        axis.remove()
    for axis, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        colour = "tab:red" if curve.flagged else "tab:blue"
        probability = curve.probability.clamp(*_SHOWN)
        axis.fill_between(probability, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(probability, curve.median, color=colour)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(xscale="logit", xlim=_SHOWN, xlabel="probability of the target")
        axis.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axis.set_xticks([], minor=True)
        flag = f"\nrewards a lower one at {100 * curve.rewards_lower:.0f} %" if curve.flagged else ""
        axis.set_title(name + flag, fontsize="medium", color=colour if curve.flagged else "black")
        axis.grid(alpha=0.25)
    bottom, top = axes[0, 0].get_ylim()
    bottom = min(bottom, -0.05 * top)
    for axis in axes.flat[: len(curves)]:
        axis.axhspan(bottom, 0, color="tab:red", alpha=0.08, linewidth=0)
        axis.set_ylim(bottom, top)
    for axis in axes[:, 0]:
        axis.set_ylabel("weight, relative to the mean")
    return figure


def to_png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140, metadata={"Software": None})
    return buffer.getvalue()


def _grid(panels: int) -> tuple[int, int]:
    rows = math.ceil(panels / _MOST_COLUMNS)
    return rows, math.ceil(panels / rows)


def _new_figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'reloss_hf[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained")
