"""The plots of this folder: the metric against updates for each arm, and what each loss asks of a token.

    python benchmarks/plots.py --results benchmarks/results/translation.json --score bleu_greedy_validation \
        --predictions path/to/reloss_state --surrogates bleu

They go beside the results, as `NAME_curves.png` and `NAME_weights.png`.
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure
from token_losses import token_losses

from reloss_hf import Predictions
from reloss_hf.diagnosis.plots import plot_weights
from reloss_hf.diagnosis.weights import weight_curve
from reloss_hf.sharing.plots import to_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", required=True, help="what a benchmark wrote")
    parser.add_argument("--score", required=True, help="the name of the score on validation that the curves show")
    parser.add_argument("--predictions", help="a folder of token predictions, for the weights")
    parser.add_argument("--surrogates", nargs="*", default=["bleu"], help="learned ones, by name or folder")
    options = parser.parse_args()
    path = Path(options.results)
    runs = json.loads(path.read_text())["runs"]
    path.with_name(f"{path.stem}_curves.png").write_bytes(to_png(plot_curves(runs, options.score)))
    if options.predictions:
        losses = token_losses(options.surrogates)
        predictions = Predictions.load(options.predictions)
        last = predictions.select((predictions.candidates == predictions.candidates.max()).nonzero().flatten())
        curves = {name: weight_curve(loss, last) for name, loss in losses.items()}
        path.with_name(f"{path.stem}_weights.png").write_bytes(to_png(plot_weights(curves)))


def plot_curves(runs: list[dict], score: str) -> Figure:
    """One line for each arm and seed that was measured on its way, from the warm start to the last update."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    starts = {row["seed"]: row for row in runs if row["arm"] == "warm_start"}
    measured = [row for row in runs if "curve" in row]
    colours: dict[str, str] = {}
    for row in measured:
        start, curve = starts[row["seed"]], row["curve"]
        updates = [start["updates"], *curve["updates"], row["updates"]]
        label = row["arm"] if row["arm"] not in colours else None
        colour = colours.setdefault(row["arm"], f"C{len(colours)}")
        axis.plot(updates, [start[score], *curve["scores"], row[score]], marker=".", color=colour, label=label)
    axis.set(xlabel="updates", ylabel=score.replace("_", " "))
    axis.grid(alpha=0.25)
    axis.legend(fontsize="small", ncols=2)
    return figure


if __name__ == "__main__":
    main()
