"""The results of the benchmark of classifiers: every run, and the rows and tables that follow from them."""

import json
import statistics
from pathlib import Path

from classification_metrics import JUDGES

ROW_ARMS = (
    "cross_entropy",
    "cross_entropy_tuned",
    "class_weights",
    "logit_adjustment",
    "soft_f1",
    "surrogate",
    "as_written",
    "shuffled_control",
)
# Trained for each metric; the others once for all rows of their data.
BY_METRIC = ("soft_f1", "surrogate", "shuffled_control")
CONTROL_METRIC = "macro F1"  # of the control in the table of specificity


class Results:
    """`classification.json` and `specificity.json` of a folder. Each run holds validation and test scores by metric."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.runs = self._read()

    def has(self, *key) -> bool:
        return any(_key(run) == key for run in self.runs)

    def add(self, run: dict) -> None:
        self.runs = [*self._read(), run]  # other processes may have added theirs
        self.write()

    def write(self) -> None:
        self._write("classification.json", {"rows": self.rows(), "runs": self.runs})
        self._write("specificity.json", {"tables": [self.specificity("go_emotions")]})

    def chosen(self, data: str, arm: str, trained_on: str | None, judged_by: str) -> dict | None:
        """The settings that are best on validation, on the first seed."""
        tried = [run for run in self.runs if _key(run)[:4] == (data, 0, arm, trained_on)]
        return max(tried, key=lambda run: run["validation"][judged_by])["variant"] if tried else None

    def of(self, data: str, arm: str, trained_on: str | None, judged_by: str) -> list[dict]:
        """The runs of an arm with the chosen settings, by seed."""
        variant = self.chosen(data, arm, trained_on, judged_by)
        runs = [run for run in self.runs if (*_key(run)[:1], *_key(run)[2:]) == (data, arm, trained_on, variant)]
        return sorted(runs, key=lambda run: run["seed"])

    def rows(self) -> list[dict]:
        rows = []
        for data, judges in JUDGES.items():
            for metric in judges:
                arms = [arm for name in ROW_ARMS if (arm := self._arm(data, metric, name))]
                if arms:
                    rows.append({"data": data, "metric": metric, "arms": arms})
        return rows

    def specificity(self, data: str) -> dict:
        columns = list(JUDGES[data])
        rows = [(arm, arm, None) for arm in ("cross_entropy", "as_written")]
        rows += [(metric, "surrogate", metric) for metric in columns]
        rows += [("shuffled_control", "shuffled_control", CONTROL_METRIC)]
        table = []
        for name, arm, trained_on in rows:
            runs = self.of(data, arm, trained_on, trained_on or CONTROL_METRIC)
            if runs:
                scores = {column: [run["test"][column] for run in runs] for column in columns}
                table.append(
                    {
                        "trained_on": name,
                        "seeds": [run["seed"] for run in runs],
                        "means": {column: round(statistics.mean(found), 2) for column, found in scores.items()},
                        "sds": {column: _deviation(found) for column, found in scores.items()},
                    }
                )
        return {"data": data, "columns": columns, "lower_is_better": [False] * len(columns), "rows": table}

    def _arm(self, data: str, metric: str, name: str) -> dict | None:
        tuned = name == "cross_entropy_tuned"
        runs = self.of(data, "cross_entropy" if tuned else name, metric if name in BY_METRIC else None, metric)
        if not runs:
            return None
        scores = [run["tuned" if tuned else "test"][metric] for run in runs]
        arm = {
            "arm": name,
            "seeds": [run["seed"] for run in runs],
            "scores": scores,
            "mean": round(statistics.mean(scores), 2),
            "sd": _deviation(scores),
            "seconds": round(statistics.mean(run["seconds"] for run in runs), 1),
            "validation": [run["validation"][metric] for run in runs],
            "settings": runs[0]["variant"],
        }
        if runs[0].get("reports"):
            arm["spearman"] = [run["reports"][0].get("spearman") for run in runs]
            arm["spearman_cross_entropy"] = [run["reports"][0].get("spearman_cross_entropy") for run in runs]
        return arm

    def _read(self) -> list[dict]:
        path = self.folder / "classification.json"
        return json.loads(path.read_text())["runs"] if path.exists() else []

    def _write(self, name: str, content: dict) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def print_tables(results: Results) -> None:
    print(f"| data, metric | seeds | {' | '.join(ROW_ARMS)} |")
    print("|---" * (2 + len(ROW_ARMS)) + "|")
    for row in results.rows():
        arms = {arm["arm"]: arm for arm in row["arms"]}
        seeds = max(len(arm["seeds"]) for arm in arms.values())
        cells = [_cell(arms[name], seeds) if name in arms else "" for name in ROW_ARMS]
        print(f"| {row['data']}, {row['metric']} | {seeds} | {' | '.join(cells)} |")
    for table in [results.specificity("go_emotions")]:
        print(f"\n| trained on | seeds | {' | '.join(table['columns'])} |")
        print("|---" * (2 + len(table["columns"])) + "|")
        for row in table["rows"]:
            cells = [f"{row['means'][column]:.1f} ± {row['sds'][column]:.1f}" if len(row["seeds"]) > 1 else
                     f"{row['means'][column]:.1f}" for column in table["columns"]]  # fmt: skip
            print(f"| {row['trained_on']} | {len(row['seeds'])} | {' | '.join(cells)} |")


def _cell(arm: dict, seeds: int) -> str:
    spread = f" ± {arm['sd']:.1f}" if len(arm["seeds"]) > 1 else ""
    return f"{arm['mean']:.1f}{spread}" + (f" ({len(arm['seeds'])})" if len(arm["seeds"]) < seeds else "")


def _deviation(values: list[float]) -> float:
    return round(statistics.stdev(values), 2) if len(values) > 1 else 0.0


def _key(run: dict) -> tuple:
    return run["data"], run["seed"], run["arm"], run["metric"], run["variant"]
