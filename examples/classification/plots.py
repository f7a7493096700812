"""Plots the score of each class for several models."""

from matplotlib.figure import Figure

_MOST = 60  # the largest number of classes in the plot


def plot_by_class(scores: dict[str, list[float]], names: list[str], counts: list[int], metric: str) -> Figure:
    """Draw a line for each class, the most frequent at the top, with a point for each model.

    Args:
        scores: the scores of the classes, by the name of the model.
        names: the names of the classes.
        counts: the number of training examples of each class.
        metric: the name of the scores.
    """
    order = sorted(range(len(names)), key=lambda c: -counts[c])[-_MOST:]
    figure = Figure(figsize=(7, 0.26 * len(order) + 1.3), layout="constrained")
    axis = figure.subplots()
    places = range(len(order))
    rows = [[values[c] for values in scores.values()] for c in order]
    axis.hlines(places, [min(row) for row in rows], [max(row) for row in rows], color="lightgrey", linewidth=4)
    colours = ("tab:grey", "tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown")
    for number, name in enumerate(scores):
        axis.scatter(
            [row[number] for row in rows], places, s=28, zorder=3, color=colours[number % len(colours)], label=name
        )
    axis.set_yticks(places, [f"{names[c]} ({counts[c]})" for c in order], fontsize="small")
    axis.set(xlabel=f"{metric} on the test set", ylabel="class (training examples)", xlim=(-0.02, None))
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.25)
    figure.legend(loc="outside upper center", ncols=min(3, len(scores)), frameon=False)
    return figure
