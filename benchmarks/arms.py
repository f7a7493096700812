"""What the benchmarks of the tasks share: arms on several seeds, a learning rate for each, and their summary."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
from transformers import TrainerCallback

from reloss_hf import GroupMetric, Predictions, SurrogateLearner, SurrogateLoss
from reloss_hf.learning.scale import scale_to_cross_entropy

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
from common import Experiment

_REPORTED = ("spearman", "spearman_within", "spearman_cross_entropy", "spearman_cross_entropy_within")


@dataclass
class BenchmarkArguments:
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One warm start and its arms each."})
    learning_rate_factors: list[float] = field(
        default_factory=lambda: [1.0],
        metadata={"help": "Of the warm start's learning rate; tried by each arm, on the first seed, on validation."},
    )
    curve_points: int = field(
        default=0, metadata={"help": "How often an arm is measured on validation before its last update."}
    )


class ShuffledMetric(GroupMetric):
    """The control: every group is given the score of another."""

    def __call__(self, *arguments):
        return np.random.default_rng(0).permutation(super().__call__(*arguments))


class LearningRateFactor(TrainerCallback):
    """Resumes a run with a multiple of its learning rate."""

    def __init__(self, factor: float):
        self.factor = factor

    def on_train_begin(self, args, state, control, optimizer=None, lr_scheduler=None, **kwargs):
        schedule = getattr(lr_scheduler, "scheduler", lr_scheduler)
        schedule.base_lrs = [self.factor * rate for rate in schedule.base_lrs]
        for group in optimizer.param_groups:
            group["lr"] *= self.factor


class ValidationCurve(TrainerCallback):
    """Measures the model on validation at evenly spread updates, into a JSON file."""

    def __init__(self, experiment: Experiment, points: int, path: Path):
        self.experiment, self.points, self.path = experiment, points, path
        self.curve = {"updates": [], "scores": [], "seconds": 0.0}

    def on_train_begin(self, args, state, control, **kwargs):
        first, count = state.global_step, self.points + 1
        self.updates = {first + (state.max_steps - first) * point // count for point in range(1, count)}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step in self.updates:
            started = time.perf_counter()
            self.curve["updates"].append(state.global_step)
            self.curve["scores"].append(round(self.experiment.validation_score(model.eval()), 2))
            self.curve["seconds"] += time.perf_counter() - started
            self.path.write_text(json.dumps(self.curve))
            model.train()


def learned(surrogate: type[SurrogateLoss], metric: str | GroupMetric, predictions: str | Path) -> SurrogateLoss:
    """One of this class, learned outside the trainer: from other predictions, or of another metric."""
    learner = SurrogateLearner(metric, surrogate.__name__)
    learner.learn(predictions)
    return learner.surrogate


def scaled(loss: SurrogateLoss, checkpoint: str) -> SurrogateLoss:
    """A hand-made loss with a gradient as long as that of cross-entropy, as learned surrogates have it."""
    predictions = Predictions.load(Path(checkpoint) / "reloss_state")
    scale_to_cross_entropy(loss, predictions.select(predictions.candidates == predictions.candidates.max()).features)
    return loss


def experiment_of(script: ModuleType, flags: list[str]) -> Experiment:
    """The experiment of an example's script with these flags."""
    given, sys.argv = sys.argv, [script.__name__, *flags]
    try:
        arguments = script.parse_arguments()
    finally:
        sys.argv = given
    return script.make_experiment(*arguments)


def run_of(row: dict) -> dict:
    """What `Results` keeps of the row of an arm, without its scores."""
    run = {name: row[name] for name in ("seconds", "updates", "refused")}
    return run | ({"reports": [row["report"]]} if row["report"] else {})


def run_seeds(
    benchmark: BenchmarkArguments,
    args,
    make_experiment: Callable[[], Experiment],
    changes: Callable[[Experiment, str, str], dict],
    chosen_by: list[str],
) -> list[dict]:
    """The rows of the warm start and of each arm, for each seed.

    Args:
        make_experiment: from the arguments as they are; called for each seed.
        changes: what an arm changes, given its experiment, its name, and the checkpoint of the warm start.
        chosen_by: the scores on validation whose mean chooses the learning rate.
    """
    folder = Path(args.output_dir)
    factors, rows = {}, []
    for seed in benchmark.seeds:
        args.seed, args.output_dir = seed, str(folder / f"seed-{seed}")
        experiment = make_experiment()
        start, checkpoint = experiment.warm_start()
        rows.append(start | {"seed": seed})
        for arm in benchmark.arms:
            tried = {
                factor: _run_arm(benchmark, experiment, arm, factor, checkpoint, changes)
                for factor in ([factors[arm]] if arm in factors else benchmark.learning_rate_factors)
            }
            factors[arm] = max(tried, key=lambda factor: statistics.mean(tried[factor][name] for name in chosen_by))
            rate = args.learning_rate * factors[arm]
            row = tried[factors[arm]] | {"seed": seed, "learning_rate": rate}
            if len(tried) > 1:
                row["tried"] = {
                    f"{factor * args.learning_rate:g}": {name: scores[name] for name in chosen_by}
                    for factor, scores in tried.items()
                }
            rows.append(row)
    return rows


def write_results(path: str, rows: list[dict]) -> list[dict]:
    """Add the rows to those of earlier calls, in the place of those of the same arms and seeds.

    Returns:
        the mean and standard deviation over seeds of each number that an arm's rows hold.
    """
    command = " ".join(sys.argv)
    path = Path(path)
    earlier = json.loads(path.read_text())["runs"] if path.exists() else []
    runs = {(row["arm"], row["seed"]): row for row in (*earlier, *({**row, "command": command} for row in rows))}
    by_arm: dict[str, list[dict]] = {}
    for row in runs.values():
        by_arm.setdefault(row["arm"], []).append(row)
    arms = [_summary(rows) for rows in by_arm.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"arms": arms, "runs": list(runs.values())}, indent=2, ensure_ascii=False) + "\n")
    return arms


def print_table(arms: list[dict], scores: list[str]) -> None:
    columns = (*scores, *_REPORTED[:2], "learning_rate", "seconds")
    print(f"\n| arm | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for arm in arms:
        print(f"| {arm['arm']} | {' | '.join(_cell(arm, name) for name in columns)} |")


def print_gains(path: str, scores: list[str]) -> None:
    """What each arm gains on cross-entropy, seed by seed, and the ratio of their times, from the results."""
    runs: dict[str, dict[int, dict]] = {}
    for row in json.loads(Path(path).read_text())["runs"]:
        runs.setdefault(row["arm"], {})[row["seed"]] = row
    base = runs.get("cross_entropy", {})
    print(f"\n| arm | seeds | {' | '.join(scores)} | time |")
    print("|---" * (len(scores) + 3) + "|")
    for arm, rows in runs.items():
        seeds = sorted(rows.keys() & base.keys())
        if arm not in ("warm_start", "cross_entropy"):
            gains = (" ".join(f"{rows[seed][name] - base[seed][name]:+.2f}" for seed in seeds) for name in scores)
            times = " ".join(f"{rows[seed]['seconds'] / base[seed]['seconds']:.2f}" for seed in seeds)
            print(f"| {arm} | {' '.join(map(str, seeds))} | {' | '.join(gains)} | {times} |")


def _run_arm(benchmark, experiment, arm, factor, checkpoint, changes) -> dict:
    folder = arm if factor == 1 else f"{arm}-x{factor:g}"
    curve = experiment.out / folder / "curve.json"
    callbacks = [LearningRateFactor(factor)] if factor != 1 else []
    if benchmark.curve_points:
        callbacks.append(ValidationCurve(experiment, benchmark.curve_points, curve))
    changed = changes(experiment, arm, checkpoint)
    row = experiment.arm(folder, checkpoint, callbacks=callbacks, **changed) | {"arm": arm}
    if "surrogate" in changed:
        row["report"] = changed["surrogate"].info or None
    if curve.exists():
        row["curve"] = json.loads(curve.read_text())
        row["seconds"] = round(row["seconds"] - row["curve"].pop("seconds"), 1)
    return row


def _summary(rows: list[dict]) -> dict:
    rows = sorted(rows, key=lambda row: row["seed"])
    summary = {"arm": rows[0]["arm"], "seeds": [row["seed"] for row in rows]}
    summary["learning_rate"] = rows[0].get("learning_rate")
    reports = [row.get("report") or {} for row in rows]
    numbers = {name: [row[name] for row in rows] for name, value in rows[0].items() if isinstance(value, int | float)}
    numbers |= {name: [report[name] for report in reports] for name in _REPORTED if all(name in r for r in reports)}
    for name, values in numbers.items():
        if name not in ("learning_rate", "updates", "seed"):
            summary[f"{name}_mean"] = round(statistics.mean(values), 3)
            summary[f"{name}_sd"] = round(statistics.stdev(values), 3) if len(values) > 1 else None
    return summary


def _cell(arm: dict, name: str) -> str:
    mean, sd = arm.get(f"{name}_mean", arm.get(name)), arm.get(f"{name}_sd")
    if mean is None:
        return ""
    if name == "learning_rate":
        return f"{mean:g}"
    return f"{mean:.3f}" if name in _REPORTED else f"{mean:.2f}" + (f" ± {sd:.2f}" if sd is not None else "")
