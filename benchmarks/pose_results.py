"""The results of the benchmark of poses: every run, and the rows and tables that follow from them."""

import json
import math
import statistics
from pathlib import Path

from poses import JUDGES

ARMS = (
    "squared_error",
    "heatmap_cross_entropy",
    "hard_keypoints",
    "as_written",
    "surrogate",
    "shuffled_control",
    "paper",
)
FIRST = next(iter(JUDGES))
# The metrics that an arm learns from; others learn from none, or are not told which.
BY_METRIC = {"surrogate": tuple(JUDGES), "shuffled_control": (FIRST,), "paper": (FIRST,)}
_FILE = "pose.json"


class Results:
    """`pose.json` of a folder. Each run holds the validation and test scores of an arm on a seed."""

    def __init__(self, folder: Path):
        self.path = Path(folder) / _FILE
        self.runs = json.loads(self.path.read_text())["runs"] if self.path.exists() else []

    def has(self, *key) -> bool:
        return any(_key(run) == key for run in self.runs)

    def add(self, run: dict) -> None:
        self.runs.append(run)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"rows": self.rows(), "specificity": self.specificity(), "runs": self.runs}
        self.path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def chosen(self, arm: str, trained_on: str | None) -> dict | None:
        """The settings that are best on validation, on the first seed, by the metric that was learned from."""
        tried = [run for run in self.runs if _key(run)[:3] == (0, arm, trained_on)]
        return max(tried, key=lambda run: run["validation"][trained_on or FIRST])["variant"] if tried else None

    def of(self, arm: str, trained_on: str | None) -> list[dict]:
        """The runs of an arm with the chosen settings, by seed."""
        variant = self.chosen(arm, trained_on)
        return sorted((run for run in self.runs if _key(run)[1:] == (arm, trained_on, variant)), key=_seed)

    def rows(self) -> list[dict]:
        """A row for each metric. The learned loss of a row was learned from its metric; other arms are the same in all
        rows."""
        rows = []
        for metric in JUDGES:
            found = {arm: self.of(arm, _trained_on(arm, metric)) for arm in ARMS}
            arms = [_arm(name, runs, metric) for name, runs in found.items() if runs]
            rows += [{"data": "lspet", "metric": metric, "arms": arms}] if arms else []
        return rows

    def specificity(self) -> dict:
        """What each metric says of losses that were learned from each metric."""
        trained = [(arm, arm, None) for arm in ("squared_error", "as_written")]
        trained += [(metric, "surrogate", metric) for metric in JUDGES]
        trained += [("shuffled_control", "shuffled_control", FIRST)]
        rows = []
        for name, arm, metric in trained:
            runs = self.of(arm, metric)
            if runs:
                scores = {column: [run["test"][column] for run in runs] for column in JUDGES}
                means = {column: round(statistics.mean(found), 2) for column, found in scores.items()}
                sds = {column: _deviation(found) for column, found in scores.items()}
                rows.append({"trained_on": name, "seeds": [*map(_seed, runs)], "means": means, "sds": sds})
        return {"data": "lspet", "columns": list(JUDGES), "lower_is_better": [False] * len(JUDGES), "rows": rows}


def print_tables(results: Results) -> None:
    """The test scores of each arm, its gain over the squared error on the same seeds with the standard error, and the
    table of specificity."""
    print("| metric | arm | seeds | score | gain | seconds | settings |")
    print("|---" * 7 + "|")
    for row in results.rows():
        arms = {arm["arm"]: arm for arm in row["arms"]}
        for name, arm in arms.items():
            cells = [f"{arm['mean']:.2f} ± {arm['sd']:.2f}", _gain(arm, arms.get("squared_error"))]
            settings = ", ".join(f"{key} {value}" for key, value in arm["settings"].items())
            cells += [f"{arm['seconds']:.0f}", settings]
            print(f"| {row['metric']} | {name} | {len(arm['seeds'])} | {' | '.join(cells)} |")
    table = results.specificity()
    print(f"\n| trained on | seeds | {' | '.join(table['columns'])} |")
    print("|---" * (2 + len(table["columns"])) + "|")
    for row in table["rows"]:
        cells = [f"{row['means'][column]:.1f} ± {row['sds'][column]:.1f}" for column in table["columns"]]
        print(f"| {row['trained_on']} | {len(row['seeds'])} | {' | '.join(cells)} |")


def _arm(name: str, runs: list[dict], metric: str) -> dict:
    scores = [run["test"][metric] for run in runs]
    arm = {
        "arm": name,
        "seeds": [*map(_seed, runs)],
        "scores": scores,
        "mean": round(statistics.mean(scores), 2),
        "sd": _deviation(scores),
        "seconds": round(statistics.mean(run["seconds"] for run in runs), 1),
        "validation": [run["validation"][metric] for run in runs],
        "settings": runs[0]["variant"],
    }
    if runs[0].get("reports"):
        arm["spearman"] = [run["reports"][0].get("spearman") for run in runs]
        arm["spearman_squared_error"] = [run["reports"][0].get("spearman_cross_entropy") for run in runs]
    return arm


def _trained_on(arm: str, metric: str) -> str | None:
    metrics = BY_METRIC.get(arm)
    return None if metrics is None else metric if metric in metrics else metrics[0]


def _gain(arm: dict, base: dict | None) -> str:
    if base is None or base is arm:
        return ""
    theirs = dict(zip(base["seeds"], base["scores"], strict=True))
    gains = [s - theirs[seed] for seed, s in zip(arm["seeds"], arm["scores"], strict=True) if seed in theirs]
    if len(gains) < 2:
        return f"{gains[0]:+.2f}" if gains else ""
    return f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains) / math.sqrt(len(gains)):.2f}"


def _deviation(values: list[float]) -> float:
    return round(statistics.stdev(values), 2) if len(values) > 1 else 0.0


def _seed(run: dict) -> int:
    return run["seed"]


def _key(run: dict) -> tuple:
    return run["seed"], run["arm"], run["metric"], run["variant"]
