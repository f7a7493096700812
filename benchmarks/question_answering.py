"""Cross-entropy, exact expected F1 and learned surrogates on several seeds, and a control that is taught nothing.

    python benchmarks/question_answering.py --model_name_or_path path/to/encoder --train_file train.jsonl.gz \
        --test_file test.jsonl.gz --seeds 0 1 2

All flags of `examples/question_answering/run_qa.py`. What is done is not done again: seeds may be run by several calls
at once, one each, and a last call with all of them prints the table and writes `--results`.
"""

import json
import logging
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples" / "question_answering"))
import run_qa
from run_qa import Experiment

from reloss_hf import ExpectedF1Loss, GroupMetric, SurrogateLearner

_SCORES = ("f1", "exact_match", "f1_validation", "exact_match_validation")
_REPORTED = ("spearman", "spearman_within", "spearman_cross_entropy", "spearman_cross_entropy_within")


ARMS = ("cross_entropy", "expected_f1", "surrogate", "OverlapSurrogate", "SpanSurrogateMLP", "shuffled_control")


@dataclass
class BenchmarkArguments:
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One warm start and its arms each."})
    arms: list[str] = field(default_factory=lambda: list(ARMS), metadata={"help": "To run.", "choices": ARMS})
    results: str = field(default="benchmarks/results/question_answering.json", metadata={"help": "Where they go."})


class ShuffledMetric(GroupMetric):
    """The control: every group is given the score of another."""

    def __call__(self, predictions, references, groups):
        return np.random.default_rng(0).permutation(super().__call__(predictions, references, groups))


def main() -> None:
    model_args, data_args, args, benchmark = run_qa.parse_arguments(BenchmarkArguments)
    logging.basicConfig(level=logging.INFO)
    folder = Path(args.output_dir)
    runs = []
    for seed in benchmark.seeds:
        args.seed, args.output_dir = seed, str(folder / f"seed-{seed}")
        runs.append(run_arms(run_qa.make_experiment(model_args, data_args, args), benchmark.arms))
    arms = [summary(rows) for rows in zip(*runs, strict=True)]
    for arm in arms:
        arm |= {"seeds": benchmark.seeds, "learning_rate": args.learning_rate}
    print_table(arms)
    results = Path(benchmark.results)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps({"arms": arms, "runs": runs, "command": " ".join(sys.argv)}, indent=2) + "\n")


def run_arms(experiment: Experiment, arms: list[str]) -> list[dict]:
    """One row for the warm start and for each arm, of one seed."""
    start, checkpoint = experiment.warm_start()
    return [start, *(run_arm(experiment, arm, checkpoint) for arm in arms)]


def run_arm(experiment: Experiment, arm: str, checkpoint: str) -> dict:
    match arm:
        case "cross_entropy":
            return experiment.arm(arm, checkpoint, surrogate_start=None)
        case "expected_f1":
            return experiment.arm(arm, checkpoint, surrogate=ExpectedF1Loss(experiment.data_args.max_answer_length))
        case "surrogate":
            return experiment.arm(arm, checkpoint)
        case "shuffled_control":
            learner = SurrogateLearner(ShuffledMetric(experiment.data_args.metric), "SharpenedF1Surrogate")
            learner.learn(Path(checkpoint) / "reloss_state")
            return experiment.arm(arm, checkpoint, surrogate=learner.surrogate) | {"report": learner.surrogate.info}
        case _:
            return experiment.arm(arm, checkpoint, surrogate_class=arm)


def summary(rows: list[dict]) -> dict:
    """Mean and standard deviation over seeds of what one arm's rows hold."""
    means = {"arm": rows[0]["arm"]}
    for name in (*_SCORES, "seconds", *_REPORTED):
        values = [(row.get("report") or {}).get(name) if name in _REPORTED else row.get(name) for row in rows]
        if None not in values:
            means[f"{name}_mean"] = round(statistics.mean(values), 3)
            means[f"{name}_sd"] = round(statistics.stdev(values), 3) if len(values) > 1 else None
    return means


def print_table(arms: list[dict]) -> None:
    columns = (*_SCORES, *_REPORTED[:2], "seconds")
    print(f"\n| arm | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for arm in arms:
        print(f"| {arm['arm']} | {' | '.join(_cell(arm, name) for name in columns)} |")


def _cell(arm: dict, name: str) -> str:
    mean, sd = arm.get(f"{name}_mean"), arm.get(f"{name}_sd")
    if mean is None:
        return ""
    return f"{mean:.3f}" if name in _REPORTED else f"{mean:.2f}" + (f" ± {sd:.2f}" if sd is not None else "")


if __name__ == "__main__":
    main()
