"""Draws the weight that losses give to a target, and their costs of errors. Needs matplotlib."""

import math
from typing import TYPE_CHECKING

from torch import Tensor

from ..sharing.plots import grid, new_figure
from .weights import WeightCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = (0.001, 0.999)
_TICKS = (0.01, 0.1, 0.5, 0.9, 0.99)
_MOST_NUMBERED = 40  # the most classes that get a number each


def plot_weights(curves: dict[str, WeightCurve]) -> "Figure":
    """Plot the weight of a target against its probability, one panel for each loss. The area below zero is shaded."""
    rows, columns = grid(len(curves))
    figure = new_figure(3.7 * columns + 0.8, 2.9 * rows)
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
        flag = f"\nrewards a lower p at {100 * curve.rewards_lower:.0f} %" if curve.flagged else ""
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


def plot_costs(costs: dict[str, dict[str, Tensor]]) -> "Figure":
    """Plot the cost of each kind of error, one row for each loss. Each class has a pair of bars that start at 1, the
    mean.

    Args:
        costs: tensors of shape `(classes,)`, by the name of the loss and by the kind of error.
    """
    longest = max(len(values) for kinds in costs.values() for values in kinds.values())
    figure = new_figure(max(6.0, min(0.28 * longest, 14.0) + 2.0), 3.0 * len(costs))
    axes = figure.subplots(len(costs), 1, squeeze=False)[:, 0]
    for axis, (name, kinds) in zip(axes, costs.items(), strict=True):
        width = 0.8 / len(kinds)
        for number, (kind, values) in enumerate(kinds.items()):
            places = [c - 0.4 + width * (number + 0.5) for c in range(len(values))]
            axis.bar(places, values - 1, width, bottom=1, label=kind)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(yscale="log", xlabel="class", ylabel="cost, relative to the mean", ylim=_around_1(kinds))
        if len(values) <= _MOST_NUMBERED:
            axis.set_xticks(range(len(values)), range(len(values)), fontsize="small")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.tick_params(axis="y", which="both", labelsize="small")
        axis.set_title(name, fontsize="medium")
        axis.grid(axis="y", which="both", alpha=0.25)
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def _around_1(kinds: dict[str, Tensor]) -> tuple[float, float]:
    farthest = max(float(values.log().abs().max()) for values in kinds.values())
    widest = math.exp(max(1.1 * farthest, 0.1))
    return 1 / widest, widest
