"""The results of a benchmark with one metric: every run, and the rows and the tables that follow from them."""

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Results:
    """A JSON file. Each run holds the validation and test scores of an arm on a seed.

    Attributes:
        path: the file.
        arms: the names of the arms, in the order of the rows.
        metric: what the metric is called.
        score: its name in the scores. Settings are chosen by it on validation, on the first seed.
        others: the names of other scores to show.
        by_class: the name of scores by class, if there are any.
        lower_is_better: whether a lower score is better. A gain is how much lower it is, then.
        bases: the names of the arms that continue with the loss before the switch. A gain is over the one of the row.
    """

    path: Path
    arms: tuple[str, ...]
    metric: str
    score: str
    others: tuple[str, ...]
    by_class: str | None = None
    lower_is_better: bool = False
    bases: tuple[str, ...] = ("cross_entropy",)

    def __post_init__(self):
        self.runs = self._read()

    def has(self, *key) -> bool:
        return any(_key(run) == key for run in self.runs)

    def add(self, run: dict) -> None:
        self.runs = [*self._read(), run]  # other processes may have added theirs
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"rows": self.rows(), "runs": self.runs}, indent=1, ensure_ascii=False)
        self.path.write_text(content + "\n")

    def chosen(self, data: str, arm: str) -> dict | None:
        """The settings that are best on validation, on the first seed."""
        tried = [run for run in self.runs if _key(run)[:3] == (data, 0, arm)]
        best = min if self.lower_is_better else max
        return best(tried, key=lambda run: run["validation"][self.score])["variant"] if tried else None

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

    def print_tables(self) -> None:
        """The test scores of each arm, and its gain over the loss before the switch on the same seeds with the standard
        error."""
        print(f"| data | arm | seeds | {' | '.join((self.score, *self.others))} | gain | seconds | settings |")
        print("|---" * (7 + len(self.others)) + "|")
        for row in self.rows():
            arms = {arm["arm"]: arm for arm in row["arms"]}
            base = next((arms[name] for name in self.bases if name in arms), None)
            for name, arm in arms.items():
                parts = [f"{arm['mean']:.2f} ± {arm['sd']:.2f}"]
                parts += [f"{statistics.mean(arm[part]):.2f}" for part in self.others]
                parts += [_gain(arm, base, -1 if self.lower_is_better else 1), f"{arm['seconds']:.0f}"]
                settings = ", ".join(f"{key} {value}" for key, value in arm["settings"].items())
                print(f"| {row['data']} | {name} | {len(arm['seeds'])} | {' | '.join(parts)} | {settings} |")
        for row in self.rows() if self.by_class else ():
            classes = list(row["arms"][0][self.by_class])
            print(f"\n| {row['data']}, {self.by_class} | {' | '.join(classes)} |\n" + "|---" * (1 + len(classes)) + "|")
            for arm in row["arms"]:
                print(f"| {arm['arm']} | {' | '.join(f'{arm[self.by_class][name]:.1f}' for name in classes)} |")

    def _arm(self, data: str, arm: str) -> dict:
        runs = self.of(data, arm)
        found = [run["test"][self.score] for run in runs]
        row = {
            "arm": arm,
            "seeds": [run["seed"] for run in runs],
            "scores": found,
            "mean": round(statistics.mean(found), 2),
            "sd": round(statistics.stdev(found), 2) if len(found) > 1 else 0.0,
            "seconds": round(statistics.mean(run["seconds"] for run in runs), 1),
            **{part: [run["test"][part] for run in runs] for part in self.others},
            "validation": [run["validation"][self.score] for run in runs],
            "settings": runs[0]["variant"],
        }
        if self.by_class:
            of_runs = [run["test"][self.by_class] for run in runs]
            row[self.by_class] = {name: round(statistics.mean(one[name] for one in of_runs), 2) for name in of_runs[0]}
        if runs[0].get("reports"):
            row["spearman"] = [run["reports"][0].get("spearman") for run in runs]
            row["spearman_cross_entropy"] = [run["reports"][0].get("spearman_cross_entropy") for run in runs]
        return row

    def _read(self) -> list[dict]:
        return json.loads(self.path.read_text())["runs"] if self.path.exists() else []


def _gain(arm: dict, base: dict | None, sign: int) -> str:
    if base is None or base is arm:
        return ""
    theirs = dict(zip(base["seeds"], base["scores"], strict=True))
    gains = [sign * (s - theirs[seed]) for seed, s in zip(arm["seeds"], arm["scores"], strict=True) if seed in theirs]
    if len(gains) < 2:
        return f"{gains[0]:+.2f}" if gains else ""
    return f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains) / math.sqrt(len(gains)):.2f}"


def _key(run: dict) -> tuple:
    return run["data"], run["seed"], run["arm"], run["variant"]
