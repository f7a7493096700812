"""Cross-entropy, exact expected F1 and learned surrogates on several seeds, and a control that is taught nothing.

    python benchmarks/question_answering.py --model_name_or_path path/to/encoder --train_file train.jsonl.gz \
        --test_file test.jsonl.gz --seeds 0 1 2

All flags of `examples/question_answering/run_qa.py`. What is done is not done again, and `--results` keeps what
earlier calls wrote of other arms and seeds: seeds may be run by several calls, and arms by one of their own.
"""

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

import arms

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples" / "question_answering"))
import run_qa

from reloss_hf import AnswersCrossEntropy, ExpectedF1Loss
from reloss_hf.tasks.question_answering.task import QuestionAnsweringTask

ARMS = (
    "cross_entropy",
    "answers_cross_entropy",
    "expected_f1",
    "surrogate",
    "SharpenedF1Surrogate",
    "OverlapSurrogate",
    "SpanSurrogateMLP",
    "shuffled_control",
)


@dataclass
class BenchmarkArguments(arms.BenchmarkArguments):
    arms: list[str] = field(default_factory=lambda: list(ARMS), metadata={"help": "To run.", "choices": ARMS})
    results: str = field(default="benchmarks/results/question_answering.json", metadata={"help": "Where they go."})


def main() -> None:
    model_args, data_args, args, benchmark = run_qa.parse_arguments(BenchmarkArguments)
    logging.basicConfig(level=logging.INFO)
    rows = arms.run_seeds(
        benchmark, args, lambda: run_qa.make_experiment(model_args, data_args, args), changes, ["f1_validation"]
    )
    summary = arms.write_results(benchmark.results, rows)
    arms.print_gains(benchmark.results, ["f1", "exact_match"])
    arms.print_table(summary, ["f1", "exact_match", "f1_validation", "exact_match_validation"])


def changes(experiment: run_qa.Experiment, arm: str, checkpoint: str) -> dict:
    match arm:
        case "cross_entropy":
            return {"surrogate_start": None}
        case "expected_f1":
            return {"surrogate": arms.scaled(ExpectedF1Loss(experiment.data_args.max_answer_length), checkpoint)}
        case "answers_cross_entropy":
            return {"surrogate": arms.scaled(AnswersCrossEntropy(), checkpoint)}
        case "surrogate":
            return {}
        case "shuffled_control":
            metric = arms.ShuffledMetric(experiment.data_args.metric)
            predictions = Path(checkpoint) / "reloss_state"
            return {"surrogate": arms.learned(QuestionAnsweringTask.default_surrogate, metric, predictions)}
        case _:
            return {"surrogate_class": arm}


if __name__ == "__main__":
    main()
