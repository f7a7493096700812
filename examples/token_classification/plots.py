"""Plots precision and recall of each type of entity for several models."""

from matplotlib.figure import Figure

_COLOURS = (
    "tab:grey",
    "tab:blue",
    "tab:orange",
    "tab:green",
    "tab:purple",
    "tab:brown",
    "tab:red",
    "tab:cyan",
    "tab:pink",
)
_MARKS = "os^DvPX*<>"


def plot_by_type(scores: dict[str, dict[str, dict[str, float]]]) -> Figure:
    """Draw a point for each model and type, with a line from the first model to each other one.

    Args:
        scores: `precision` and `recall` from 0 to 1, by the name of the model and by the type.
    """
    figure = Figure(figsize=(6.5, 5.5), layout="constrained")
    axis = figure.subplots()
    first, *_ = scores.values()
    for number, (name, of_types) in enumerate(scores.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        for place, (kind, values) in enumerate(of_types.items()):
            point = (values["recall"], values["precision"])
            axis.scatter(*point, s=42, zorder=3, color=colour, marker=_MARKS[place % len(_MARKS)])
            if kind in first:
                lines = zip((first[kind]["recall"], first[kind]["precision"]), point, strict=True)
                axis.plot(*lines, color=colour, alpha=0.4, linewidth=1)
        axis.scatter([], [], color=colour, label=name)
    for place, kind in enumerate(first):
        axis.scatter([], [], color="black", marker=_MARKS[place % len(_MARKS)], label=kind)
    axis.set(xlabel="recall on the test set", ylabel="precision on the test set")
    axis.grid(alpha=0.25)
    figure.legend(loc="outside upper center", ncols=min(4, len(scores) + len(first)), frameon=False)
    return figure
