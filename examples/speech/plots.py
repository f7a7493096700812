"""Plots the word errors of several models by kind."""

from matplotlib.figure import Figure

_COLOURS = {"substitutions": "tab:blue", "deletions": "tab:orange", "insertions": "tab:green"}


def plot_edits(rates: dict[str, dict[str, float]]) -> Figure:
    """Draw a bar for each model, of its substitutions, deletions and insertions.

    Args:
        rates: the edits of each kind for each word that was said, by the name of the model.
    """
    figure = Figure(figsize=(6.5, 1 + 0.45 * len(rates)), layout="constrained")
    axis = figure.subplots()
    left = [0.0] * len(rates)
    for kind, colour in _COLOURS.items():
        widths = [row[kind] for row in rates.values()]
        axis.barh(list(rates), widths, left=left, color=colour, label=kind)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axis.invert_yaxis()
    axis.set(xlabel="word errors on the test set, for each word that was said")
    axis.legend(frameon=False)
    axis.grid(axis="x", alpha=0.25)
    return figure
