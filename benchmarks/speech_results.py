"""The results of the benchmark of speech: every run, and the rows and the table that follow from them."""

import json
import math
import statistics
from pathlib import Path

# Continuing with the loss before the switch is called by its name.
BASE = {"ctc": "ctc", "whisper": "cross_entropy"}
ARMS = ("ctc", "cross_entropy", "expected_wer", "as_written", "surrogate", "shuffled_control")
METRIC = "WER"
_FILE = "speech.json"
_PARTS = ("cer", "substitutions", "deletions", "insertions")


class Results:
    """`speech.json` of a folder. Each run holds the validation and test scores, in percent, of an arm on a seed."""

    def __init__(self, folder: Path):
        self.path = Path(folder) / _FILE
        self.runs = json.loads(self.path.read_text())["runs"] if self.path.exists() else []

    def has(self, *key) -> bool:
        return any(_key(run) == key for run in self.runs)

    def add(self, run: dict) -> None:
        self.runs.append(run)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"rows": self.rows(), "runs": self.runs}, indent=1, ensure_ascii=False)
        self.path.write_text(content + "\n")

    def chosen(self, kind: str, arm: str) -> dict:
        """The settings with the least WER on validation, on the first seed.

        Raises:
            ValueError: the first seed was not run.
        """
        tried = [run for run in self.runs if _key(run)[:3] == (kind, 0, arm)]
        if not tried:
            raise ValueError(f"the settings of {arm} are chosen on seed 0, which was not run: pass --seeds 0 first")
        return min(tried, key=lambda run: run["validation"]["wer"])["variant"]

    def of(self, kind: str, arm: str) -> list[dict]:
        """The runs of an arm with the chosen settings, by seed."""
        if not any(_key(run)[:3] == (kind, 0, arm) for run in self.runs):
            return []
        key = kind, arm, self.chosen(kind, arm)
        return sorted(
            (run for run in self.runs if (run["data"], run["arm"], run["variant"]) == key), key=lambda run: run["seed"]
        )

    def rows(self) -> list[dict]:
        rows = []
        for kind in dict.fromkeys(run["data"] for run in self.runs):
            arms = [self._arm(kind, arm) for arm in ARMS if self.of(kind, arm)]
            rows.append({"data": kind, "metric": METRIC, "arms": arms})
        return rows

    def _arm(self, kind: str, arm: str) -> dict:
        runs = self.of(kind, arm)
        found = [run["test"]["wer"] for run in runs]
        row = {
            "arm": arm,
            "seeds": [run["seed"] for run in runs],
            "scores": found,
            "mean": round(statistics.mean(found), 2),
            "sd": round(statistics.stdev(found), 2) if len(found) > 1 else 0.0,
            "seconds": round(statistics.mean(run["seconds"] for run in runs), 1),
            **{part: [run["test"][part] for run in runs] for part in _PARTS},
            "validation": [run["validation"]["wer"] for run in runs],
            "settings": runs[0]["variant"],
        }
        if all(run["report"] for run in runs):
            row |= {name: [run["report"][name] for run in runs] for name in ("spearman", "spearman_cross_entropy")}
        return row


def print_table(results: Results) -> None:
    """The test scores of each arm, and its WER relative to the loss before the switch on the same seeds."""
    print(f"| model | arm | seeds | WER | {' | '.join(_PARTS)} | change of WER | seconds | settings |")
    print("|---" * (7 + len(_PARTS)) + "|")
    for row in results.rows():
        arms = {arm["arm"]: arm for arm in row["arms"]}
        for name, arm in arms.items():
            parts = [f"{arm['mean']:.2f} ± {arm['sd']:.2f}"]
            parts += [f"{statistics.mean(arm[part]):.2f}" for part in _PARTS]
            parts += [_change(arm, arms.get(BASE[row["data"]])), f"{arm['seconds']:.0f}"]
            settings = ", ".join(f"{key} {value}" for key, value in arm["settings"].items())
            print(f"| {row['data']} | {name} | {len(arm['seeds'])} | {' | '.join(parts)} | {settings} |")


def _change(arm: dict, base: dict | None) -> str:
    """In percent of the WER of the base, with the standard error."""
    if base is None or base is arm:
        return ""
    theirs = dict(zip(base["seeds"], base["scores"], strict=True))
    pairs = [(s, theirs[seed]) for seed, s in zip(arm["seeds"], arm["scores"], strict=True) if theirs.get(seed)]
    changes = [100 * (own - other) / other for own, other in pairs]
    if len(changes) < 2:
        return f"{changes[0]:+.1f} %" if changes else ""
    return f"{statistics.mean(changes):+.1f} ± {statistics.stdev(changes) / math.sqrt(len(changes)):.1f} %"


def _key(run: dict) -> tuple:
    return run["data"], run["seed"], run["arm"], run["variant"]
