"""Cross-entropy, hand-made losses and learned surrogates on several seeds, and a control that is taught nothing.

    python benchmarks/translation.py --from_scratch --train_file train.json --validation_file validation.json \
        --test_file test.json --source_lang en --target_lang de --seeds 0 1 2

All flags of `examples/translation/run_translation.py`. What is done is not done again, and `--results` keeps
what earlier calls wrote of other arms and seeds: seeds may be run by several calls, and arms by one of their own.
"""

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

import arms

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples" / "translation"))
import run_translation

from reloss_hf import MinimumRiskLoss, NgramSurrogate, PrefixNgramSurrogate, TokenErrorProbability
from reloss_hf.tasks import TokenSequenceTask

ARMS = (
    "cross_entropy",
    "plain_cross_entropy",
    "one_minus_p",
    "ngram_match",
    "minimum_risk",
    "own_prefix_blend",
    "surrogate",
    "NgramSurrogate",
    "shuffled_control",
)


@dataclass
class BenchmarkArguments(arms.BenchmarkArguments):
    arms: list[str] = field(default_factory=lambda: list(ARMS), metadata={"help": "To run.", "choices": ARMS})
    results: str = field(default="benchmarks/results/translation.json", metadata={"help": "Where they go."})


class OwnPrefixBlend(PrefixNgramSurrogate):
    """The expected n-gram match after the model's own output, and `1 - p` after the target."""

    reads = (*PrefixNgramSurrogate.reads, *TokenErrorProbability.reads)

    def score(self, features):
        return super().score(features) + TokenErrorProbability.score(self, features)


def main() -> None:
    model_args, data_args, args, benchmark = run_translation.parse_arguments(BenchmarkArguments)
    logging.basicConfig(level=logging.INFO)
    beam = f"bleu_beam{data_args.num_beams}"
    rows = arms.run_seeds(
        benchmark,
        args,
        lambda: run_translation.make_experiment(model_args, data_args, args),
        changes,
        ["bleu_greedy_validation", f"{beam}_validation"],
    )
    summary = arms.write_results(benchmark.results, rows)
    arms.print_table(summary, ["bleu_greedy", beam, "bleu_greedy_validation", f"{beam}_validation"])


def changes(experiment: run_translation.Experiment, arm: str, checkpoint: str) -> dict:
    match arm:
        case "cross_entropy":
            return {"surrogate_start": None}
        case "plain_cross_entropy":
            return {"surrogate_start": None, "label_smoothing_factor": 0.0}
        case "one_minus_p":
            return {"surrogate": arms.scaled(TokenErrorProbability(), checkpoint)}
        case "ngram_match":
            return {"surrogate": arms.scaled(NgramSurrogate(), checkpoint)}
        case "minimum_risk":
            return {"surrogate": MinimumRiskLoss()}
        case "surrogate":
            return {}
        case "own_prefix_blend":
            return {"surrogate": OwnPrefixBlend()}
        case "shuffled_control":
            return {"surrogate": arms.shuffled_control(TokenSequenceTask, "sacrebleu", checkpoint)}
        case _:
            return {"surrogate_class": arm}


if __name__ == "__main__":
    main()
