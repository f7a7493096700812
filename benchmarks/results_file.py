"""The results of a benchmark: every run, and the rows and tables that follow from them."""

import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path

TUNED = "_tuned"
_SPECIFICITY = "specificity.json"


@dataclass
class Results:
    """A JSON file. Each run holds the scores of an arm on a seed, by name: `validation`, `test`, and `tuned` where its
    decisions were tuned on validation, too.

    Attributes:
        path: the file.
        arms: the names of the arms, in the order of the rows. Under a name that ends in `_tuned` are the tuned scores
            of the arm before it.
        metrics: the metrics of each data set: what they are called, and their names in the scores. Settings are chosen
            by them on validation, on the first seed.
        by_metric: the arms that are trained for one metric.
        others: the names of other scores to show.
        by_class: the name of scores by class, if there are any.
        lower_is_better: the metrics whose lower scores are better. A gain is how much lower they are, then.
        bases: the names of the arms that continue with the loss before the switch. A gain is over the one of the row.
        specificity_of: the tables in `specificity.json`, by name: the data set, and what is put behind the names of its
            scores.
    """

    path: Path
    arms: tuple[str, ...]
    metrics: dict[str, dict[str, str]]
    by_metric: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    by_class: str | None = None
    lower_is_better: tuple[str, ...] = ()
    bases: tuple[str, ...] = ("cross_entropy",)
    specificity_of: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self):
        self.runs = self._read()

    def has(self, *key) -> bool:
        return any(_key(run) == key for run in self.runs)

    def add(self, run: dict) -> None:
        self.runs = [*self._read(), run]  # other processes may have added theirs
        self.write()

    def write(self) -> None:
        _write(self.path, {"rows": self.rows(), "runs": self.runs})
        if self.specificity_of:
            tables = [self.specificity(name) for name in self.specificity_of]
            path = self.path.with_name(_SPECIFICITY)
            others = json.loads(path.read_text())["tables"] if path.exists() else []
            others = [table for table in others if table["data"] not in self.specificity_of]
            _write(path, {"tables": [*tables, *others]})

    def chosen(self, data: str, arm: str, trained_on: str | None, judged_by: str) -> dict | None:
        """The settings that are best on validation, on the first seed."""
        tried = [run for run in self.runs if _key(run)[:4] == (data, 0, arm, trained_on)]
        best, score = min if judged_by in self.lower_is_better else max, self.metrics[data][judged_by]
        return best(tried, key=lambda run: run["validation"][score])["variant"] if tried else None

    def of(self, data: str, arm: str, trained_on: str | None, judged_by: str) -> list[dict]:
        """The runs of an arm with the chosen settings, by seed."""
        if arm.endswith(TUNED):
            runs = self.of(data, arm.removesuffix(TUNED), trained_on, judged_by)
            return [run | {"test": run["tuned"]} | _validation_of_tuned(run) for run in runs]
        variant = self.chosen(data, arm, trained_on, judged_by)
        runs = [run for run in self.runs if (*_key(run)[:1], *_key(run)[2:]) == (data, arm, trained_on, variant)]
        return sorted(runs, key=lambda run: run["seed"])

    def rows(self) -> list[dict]:
        rows = []
        for data, metrics in self.metrics.items():
            for metric in metrics:
                arms = [arm for name in self.arms if (arm := self._arm(data, metric, name))]
                if arms:
                    rows.append({"data": data, "metric": metric, "arms": arms})
        return rows

    def specificity(self, table: str) -> dict:
        """What each metric says of the losses that were learned from each metric. The control is that of the first."""
        data, suffix = self.specificity_of[table]
        columns = self.metrics[data]
        first = next(iter(columns))
        rows = [(arm, arm, None) for arm in (*self.bases, "as_written")]
        rows += [(metric, "surrogate", metric) for metric in columns]
        rows += [("shuffled_control", "shuffled_control", first)]
        found = []
        for name, arm, trained_on in rows:
            runs = self.of(data, arm, trained_on, trained_on or first)
            if runs:
                scores = {column: [run["test"][score + suffix] for run in runs] for column, score in columns.items()}
                means = {column: round(statistics.mean(values), 2) for column, values in scores.items()}
                sds = {column: _deviation(values) for column, values in scores.items()}
                found.append({"trained_on": name, "seeds": _seeds(runs), "means": means, "sds": sds})
        lower = [column in self.lower_is_better for column in columns]
        return {"data": table, "columns": list(columns), "lower_is_better": lower, "rows": found}

    def print_rows(self) -> None:
        """The mean test scores: a row for each metric, a column for each arm."""
        print(f"| data, metric | seeds | {' | '.join(self.arms)} |")
        print("|---" * (2 + len(self.arms)) + "|")
        for row in self.rows():
            arms = {arm["arm"]: arm for arm in row["arms"]}
            seeds = max(len(arm["seeds"]) for arm in arms.values())
            cells = [_cell(arms[name], seeds) if name in arms else "" for name in self.arms]
            print(f"| {row['data']}, {row['metric']} | {seeds} | {' | '.join(cells)} |")

    def print_arms(self) -> None:
        """The test scores of each arm, and its gain over the loss before the switch on the same seeds with the standard
        error."""
        print(f"| data, metric | arm | seeds | {' | '.join(('score', *self.others))} | gain | seconds | settings |")
        print("|---" * (7 + len(self.others)) + "|")
        for row in self.rows():
            arms = {arm["arm"]: arm for arm in row["arms"]}
            base = next((arms[name] for name in self.bases if name in arms), None)
            for name, arm in arms.items():
                parts = [f"{arm['mean']:.2f} ± {arm['sd']:.2f}"]
                parts += [f"{statistics.mean(arm[part]):.2f}" for part in self.others]
                parts += [_gain(arm, base, -1 if row["metric"] in self.lower_is_better else 1), f"{arm['seconds']:.0f}"]
                settings = ", ".join(f"{key} {value}" for key, value in arm["settings"].items())
                head = f"{row['data']}, {row['metric']} | {name} | {len(arm['seeds'])}"
                print(f"| {head} | {' | '.join(parts)} | {settings} |")
        for row in self.rows() if self.by_class else ():
            classes = list(row["arms"][0][self.by_class])
            print(f"\n| {row['data']}, {self.by_class} | {' | '.join(classes)} |\n" + "|---" * (1 + len(classes)) + "|")
            for arm in row["arms"]:
                print(f"| {arm['arm']} | {' | '.join(f'{arm[self.by_class][name]:.1f}' for name in classes)} |")

    def print_specificity(self) -> None:
        for table in map(self.specificity, self.specificity_of):
            print(f"\n{table['data']}\n\n| trained on | seeds | {' | '.join(table['columns'])} |")
            print("|---" * (2 + len(table["columns"])) + "|")
            for row in table["rows"]:
                spread = len(row["seeds"]) > 1
                cells = [f"{mean:.1f}" + f" ± {row['sds'][name]:.1f}" * spread for name, mean in row["means"].items()]
                print(f"| {row['trained_on']} | {len(row['seeds'])} | {' | '.join(cells)} |")

    def _arm(self, data: str, metric: str, name: str) -> dict | None:
        runs = self.of(data, name, metric if name in self.by_metric else None, metric)
        if not runs:
            return None
        score = self.metrics[data][metric]
        found = [run["test"][score] for run in runs]
        arm = {
            "arm": name,
            "seeds": _seeds(runs),
            "scores": found,
            "mean": round(statistics.mean(found), 2),
            "sd": _deviation(found),
            "seconds": round(statistics.mean(run["seconds"] for run in runs), 1),
            **{part: [run["test"][part] for run in runs] for part in self.others},
            "validation": [run["validation"][score] for run in runs],
            "settings": runs[0]["variant"],
        }
        if self.by_class:
            of_runs = [run["test"][self.by_class] for run in runs]
            arm[self.by_class] = {name: round(statistics.mean(one[name] for one in of_runs), 2) for name in of_runs[0]}
        if runs[0].get("reports"):
            arm["spearman"] = [run["reports"][0].get("spearman") for run in runs]
            arm["spearman_cross_entropy"] = [run["reports"][0].get("spearman_cross_entropy") for run in runs]
        return arm

    def _read(self) -> list[dict]:
        return json.loads(self.path.read_text())["runs"] if self.path.exists() else []


def _write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _cell(arm: dict, seeds: int) -> str:
    spread = f" ± {arm['sd']:.1f}" if len(arm["seeds"]) > 1 else ""
    return f"{arm['mean']:.1f}{spread}" + (f" ({len(arm['seeds'])})" if len(arm["seeds"]) < seeds else "")


def _gain(arm: dict, base: dict | None, sign: int) -> str:
    if base is None or base is arm:
        return ""
    theirs = dict(zip(base["seeds"], base["scores"], strict=True))
    gains = [sign * (s - theirs[seed]) for seed, s in zip(arm["seeds"], arm["scores"], strict=True) if seed in theirs]
    if len(gains) < 2:
        return f"{gains[0]:+.2f}" if gains else ""
    return f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains) / math.sqrt(len(gains)):.2f}"


def _deviation(values: list[float]) -> float:
    return round(statistics.stdev(values), 2) if len(values) > 1 else 0.0


def _seeds(runs: list[dict]) -> list[int]:
    return [run["seed"] for run in runs]


def _validation_of_tuned(run: dict) -> dict:
    return {"validation": run["tuned_validation"]} if "tuned_validation" in run else {}


def _key(run: dict) -> tuple:
    return run["data"], run["seed"], run["arm"], run.get("metric"), run["variant"]
