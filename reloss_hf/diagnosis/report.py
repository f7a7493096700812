"""Writes a diagnosis as a table for the terminal, and as one self-contained HTML file."""

import base64
import json
from html import escape
from pathlib import Path

from ..sharing.plots import Panel, plot_against_metric, spearman_title, to_png
from .plots import plot_costs, plot_weights
from .results import Diagnosis, Interval, LossDiagnosis
from .verdict import verdict

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.verdict { background: #eef4fb; border-left: 4px solid #1f77b4; padding: .5rem 1rem; }
.verdict p { margin: .5rem 0; } .verdict p:first-child { font-weight: 600; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; } img { max-width: 100%; height: auto; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } .interval { color: #777; font-size: .8em; display: block; }
.flag { color: #c00; } code { overflow-wrap: anywhere; }
footer { color: #777; font-size: .85rem; margin-top: 3rem; }
"""
_AGAINST_METRIC, _WEIGHTS, _COSTS = "losses_against_metric.png", "weights.png", "costs.png"
_EXPLAINED = """A candidate is the model at
one time of its training. Over all groups, the correlation mostly shows the trend, which every loss follows. Within one
candidate it is harder to get right, and it counts for the next steps of a training. <em>Gain</em> is the mean within
one candidate minus that of {base}. The small print shows 95 % bootstrap intervals, from drawing the groups of each
candidate again."""
_EXPLAINED_SETS = """A candidate is the
model's prediction for a set of examples, perturbed as the next steps of a training might change it. The candidates of
each set are ranked among themselves. <em>Gain</em> is the mean minus that of {base}. The small print shows 95 %
bootstrap intervals, from drawing the sets of each model again."""
_SCATTER = "Each point is a group. A loss orders well within a candidate if the cloud of each colour is thin."
_SCATTER_OF_SETS = """Each point is a candidate, minus the mean of its set. A loss orders well if the cloud is thin and
falls from left to right."""
_CORRELATIONS = {"overall": "all groups", "last": "last candidate", "within": "within one, mean"}
_CORRELATIONS_OF_SETS = {"within": "mean of the sets", "last": "of the last model"}


def heading(diagnosis: Diagnosis) -> str:
    """A line that says what the table shows."""
    return f"Spearman with {diagnosis.metric_name} {_over(diagnosis)}, 95 % intervals"


def table(diagnosis: Diagnosis) -> str:
    """The correlations with their intervals, aligned for a terminal."""
    rows = [_columns(diagnosis), *(_cells(diagnosis, loss) for loss in diagnosis.losses)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def write_report(diagnosis: Diagnosis, folder: str | Path, source: str, command: str) -> Path:
    """Write `report.html`, its pictures as PNG, and `diagnosis.json` with the numbers.

    The picture of weights is left out if no loss reads probabilities of targets. The picture of costs is left out if no
    loss has costs.

    Args:
        diagnosis: the diagnosis to report.
        folder: the folder to write into.
        source: the place of the predictions, for the heading.
        command: the command that makes the report again.

    Returns:
        The path of the HTML file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(diagnosis)
    for name, png in pictures.items():
        (folder / name).write_bytes(png)
    (folder / "diagnosis.json").write_text(json.dumps(_numbers(diagnosis), indent=2) + "\n", encoding="utf-8")
    path = folder / "report.html"
    path.write_text(_page(diagnosis, pictures, source, command), encoding="utf-8")
    return path


def _pictures(diagnosis: Diagnosis) -> dict[str, bytes]:
    same = diagnosis.same_examples
    panels = [
        Panel(loss.name, loss.losses, spearman_title(loss.overall.value, None if same else loss.within.value))
        for loss in diagnosis.losses
    ]
    curves = {loss.name: loss.weights for loss in diagnosis.losses if loss.weights is not None}
    costs = {loss.name: loss.costs for loss in diagnosis.losses if loss.costs}
    words = (", centred", "model, early to late") if same else ()
    pictures = {
        _AGAINST_METRIC: plot_against_metric(
            panels, diagnosis.metric, diagnosis.candidates, diagnosis.metric_name, *words
        )
    }
    if curves:
        pictures[_WEIGHTS] = plot_weights(curves)
    if costs:
        pictures[_COSTS] = plot_costs(costs)
    return {name: to_png(figure) for name, figure in pictures.items()}


def _page(diagnosis: Diagnosis, pictures: dict[str, bytes], source: str, command: str) -> str:
    metric = escape(diagnosis.metric_name)
    signature = f" (<code>{escape(diagnosis.metric_signature)}</code>)" if diagnosis.metric_signature else ""
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in _html_cells(diagnosis, loss)) + "</tr>"
        for loss in diagnosis.losses
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Do the losses follow {metric}?</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Do the losses follow {metric}?</h1>
<p>{_what(diagnosis)}, from <code>{escape(source)}</code>, scored by {metric}{signature}.</p>
<div class="verdict">
{"".join(f"<p>{escape(sentence)}</p>" for sentence in verdict(diagnosis))}
</div>

<h2>How each loss orders them</h2>
<div class="scroll"><table>
<thead><tr>{"".join(f"<th>{escape(name)}</th>" for name in _columns(diagnosis))}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
<p>Spearman correlation of {metric} with the negative loss: 1 is the same order, 0 none, −1 the opposite one.
{(_EXPLAINED_SETS if diagnosis.same_examples else _EXPLAINED).format(base=escape(diagnosis.losses[0].name))}
A surrogate that was learned from these predictions looks better here than it is.</p>

<h2>{metric} against each loss</h2>
<img alt="Scatter plots of {metric} against each loss" src="{_data_uri(pictures[_AGAINST_METRIC])}">
<p>{_SCATTER_OF_SETS if diagnosis.same_examples else _SCATTER}</p>
{_weights_section(pictures[_WEIGHTS]) if _WEIGHTS in pictures else ""}
{_costs_section(pictures[_COSTS]) if _COSTS in pictures else ""}
<footer>Made with reloss_hf by <code>{escape(command)}</code>.</footer>
</body>
</html>
"""


def _weights_section(picture: bytes) -> str:
    return f"""
<h2>What each loss asks of a target</h2>
<img alt="Weight of a target against its probability, for each loss" src="{_data_uri(picture)}">
<p>The weight <code>−∂loss/∂log p</code> of a target, relative to the mean, against the probability
<code>p</code> that a candidate gives it: the median, and a band from the first decile to the last.
Cross-entropy gives all targets the same weight. A loss that follows the decoded output gives little weight to hopeless
targets. Below zero a loss rewards <em>lowering</em> the probability of a target.</p>"""


def _costs_section(picture: bytes) -> str:
    return f"""
<h2>What each error costs</h2>
<img alt="Costs of errors by class" src="{_data_uri(picture)}">
<p>The cost of each kind of error, by class, relative to the mean. Cross-entropy has a cost of 1 for all of them.</p>"""


def _over(diagnosis: Diagnosis) -> str:
    if not diagnosis.same_examples:
        return f"over {len(diagnosis.metric)} groups"
    sets = (len(diagnosis.metric) + diagnosis.groups_left_out) // diagnosis.set_size
    return f"within {sets} sets of {diagnosis.set_size} candidates of the same {diagnosis.group_size} examples"


def _what(diagnosis: Diagnosis) -> str:
    makers = len(diagnosis.candidates.unique())
    if not diagnosis.same_examples:
        return f"{len(diagnosis.metric)} groups of {diagnosis.group_size} predictions by {makers} candidates"
    models = "one model" if makers == 1 else f"a model at {makers} times"
    return f"{len(diagnosis.metric)} candidates, {_over(diagnosis)}: predictions of {models}, perturbed"


def _columns(diagnosis: Diagnosis) -> tuple[str, ...]:
    return ("loss", *_correlations(diagnosis).values(), "gain", "rewards lower p")


def _correlations(diagnosis: Diagnosis) -> dict[str, str]:
    return _CORRELATIONS_OF_SETS if diagnosis.same_examples else _CORRELATIONS


def _cells(diagnosis: Diagnosis, loss: LossDiagnosis) -> tuple[str, ...]:
    intervals = [getattr(loss, name) for name in _correlations(diagnosis)]
    return (
        loss.name,
        *(f"{i.value:.3f} [{i.low:.2f}, {i.high:.2f}]" for i in intervals),
        "" if loss.gain is None else f"{loss.gain.value:+.3f} [{loss.gain.low:+.2f}, {loss.gain.high:+.2f}]",
        _rewards_lower(loss),
    )


def _html_cells(diagnosis: Diagnosis, loss: LossDiagnosis) -> list[str]:
    def cell(interval: Interval | None, sign: str = "") -> str:
        if interval is None:
            return ""
        return (
            f"{interval.value:{sign}.3f}"
            f'<span class="interval">{interval.low:{sign}.2f} to {interval.high:{sign}.2f}</span>'
        )

    flagged = loss.weights is not None and loss.weights.flagged
    share = f'<span class="flag">{_rewards_lower(loss)}</span>' if flagged else _rewards_lower(loss)
    intervals = [getattr(loss, name) for name in _correlations(diagnosis)]
    return [escape(loss.name), *map(cell, intervals), cell(loss.gain, "+"), share]


def _rewards_lower(loss: LossDiagnosis) -> str:
    if loss.weights is None:
        return "–"
    return f"{100 * loss.weights.rewards_lower:.1f} %" + (" !" if loss.weights.flagged else "")


def _numbers(diagnosis: Diagnosis) -> dict:
    losses = {
        loss.name: {
            name: getattr(loss, name) and vars(getattr(loss, name)) for name in ("overall", "last", "within", "gain")
        }
        | {"rewards_lower": loss.weights and loss.weights.rewards_lower}
        | ({"costs": {kind: values.tolist() for kind, values in loss.costs.items()}} if loss.costs else {})
        for loss in diagnosis.losses
    }
    return {
        "metric": diagnosis.metric_name,
        "metric_signature": diagnosis.metric_signature,
        "group_size": diagnosis.group_size,
        "groups": len(diagnosis.metric),
        "candidates_of_a_set": diagnosis.set_size or None,
        "losses": losses,
        "verdict": verdict(diagnosis),
    }


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
