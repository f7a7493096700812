"""The results of the benchmark of taggers: every run, and the rows and the table that follow from them."""

import json
import math
import statistics
from pathlib import Path
from typing import ClassVar

ARMS = ("cross_entropy", "o_weight", "dice", "as_written", "surrogate", "shuffled_control")


class Results:
    """`token_classification.json` of a folder. Each run holds the validation and test scores of an arm on a seed.

    Attributes:
        file: the name of the file.
        metric: the metric in the rows, `f1` in the scores.
        parts: other scores in the rows.
        arms: the arms in the rows, in this order.
    """

    file: ClassVar[str] = "token_classification.json"
    metric: ClassVar[str] = "entity F1"
    parts: ClassVar[tuple[str, ...]] = ("precision", "recall")
    arms: ClassVar[tuple[str, ...]] = ARMS

    def __init__(self, folder: Path):
        self.path = Path(folder) / self.file
        self.runs = json.loads(self.path.read_text())["runs"] if self.path.exists() else []

    def has(self, *key) -> bool:
        return any(_key(run) == key for run in self.runs)

    def add(self, run: dict) -> None:
        self.runs.append(run)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"rows": self.rows(), "runs": self.runs}, indent=1, ensure_ascii=False)
        self.path.write_text(content + "\n")

    def chosen(self, data: str, arm: str) -> dict | None:
        """The settings with the best F1 on validation, on the first seed."""
        tried = [run for run in self.runs if _key(run)[:3] == (data, 0, arm)]
        return max(tried, key=lambda run: run["validation"]["f1"])["variant"] if tried else None

    def of(self, data: str, arm: str) -> list[dict]:
        """The runs of an arm with the chosen settings, by seed."""
        variant = self.chosen(data, arm)
        runs = [run for run in self.runs if (run["data"], run["arm"], run["variant"]) == (data, arm, variant)]
        return sorted(runs, key=lambda run: run["seed"])

    def rows(self) -> list[dict]:
        rows = []
        for data in dict.fromkeys(run["data"] for run in self.runs):
            arms = [self._arm(data, arm) for arm in self.arms if self.of(data, arm)]
            rows.append({"data": data, "metric": self.metric, "arms": arms})
        return rows

    def _arm(self, data: str, arm: str) -> dict:
        runs = self.of(data, arm)
        found = [run["test"]["f1"] for run in runs]
        row = {
            "arm": arm,
            "seeds": [run["seed"] for run in runs],
            "scores": found,
            "mean": round(statistics.mean(found), 2),
            "sd": round(statistics.stdev(found), 2) if len(found) > 1 else 0.0,
            "seconds": round(statistics.mean(run["seconds"] for run in runs), 1),
            **{part: [run["test"][part] for run in runs] for part in self.parts},
            "validation": [run["validation"]["f1"] for run in runs],
            "settings": runs[0]["variant"],
        }
        if runs[0].get("reports"):
            row["spearman"] = [run["reports"][0].get("spearman") for run in runs]
            row["spearman_cross_entropy"] = [run["reports"][0].get("spearman_cross_entropy") for run in runs]
        return row


def print_table(results: Results) -> None:
    """The test scores of each arm, and its gain over cross-entropy on the same seeds with the standard error."""
    print(f"| data | arm | seeds | F1 | {' | '.join(results.parts)} | gain | seconds | settings |")
    print("|---" * (7 + len(results.parts)) + "|")
    for row in results.rows():
        arms = {arm["arm"]: arm for arm in row["arms"]}
        for name, arm in arms.items():
            parts = [f"{arm['mean']:.2f} ± {arm['sd']:.2f}"]
            parts += [f"{statistics.mean(arm[part]):.2f}" for part in results.parts]
            parts += [_gain(arm, arms.get("cross_entropy")), f"{arm['seconds']:.0f}"]
            settings = ", ".join(f"{key} {value}" for key, value in arm["settings"].items())
            print(f"| {row['data']} | {name} | {len(arm['seeds'])} | {' | '.join(parts)} | {settings} |")


def _gain(arm: dict, base: dict | None) -> str:
    if base is None or base is arm:
        return ""
    theirs = dict(zip(base["seeds"], base["scores"], strict=True))
    gains = [s - theirs[seed] for seed, s in zip(arm["seeds"], arm["scores"], strict=True) if seed in theirs]
    if len(gains) < 2:
        return f"{gains[0]:+.2f}" if gains else ""
    return f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains) / math.sqrt(len(gains)):.2f}"


def _key(run: dict) -> tuple:
    return run["data"], run["seed"], run["arm"], run["variant"]
