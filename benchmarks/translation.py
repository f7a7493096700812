"""Cross-entropy, hand-made losses and learned surrogates on several seeds, and a control that is taught nothing.

    python benchmarks/translation.py --from_scratch --train_file train.json --validation_file validation.json \
        --test_file test.json --source_lang en --target_lang de --seeds 0 1 2 --save_strategy steps --save_steps 454

The arms on the model's own output learn from translations by the checkpoints of the warm start: save several. All flags
of `examples/translation/run_translation.py`. What is done is not done again, and `--results` keeps what earlier calls
wrote of other arms and seeds: seeds may be run by several calls, and arms by one of their own.
"""

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

import arms
import torch
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples" / "translation"))
import run_translation

from reloss_hf import (
    DraftSurrogate,
    MinimumRiskLoss,
    NgramSurrogate,
    OwnOutputSurrogate,
    Predictions,
    SurrogateLoss,
    TokenCrossEntropy,
    TokenErrorProbability,
)
from reloss_hf.tasks import Candidate
from reloss_hf.tasks.token_sequence.task import TokenSequenceTask

ARMS = (
    "cross_entropy",
    "plain_cross_entropy",
    "one_minus_p",
    "ngram_match",
    "minimum_risk",
    "draft",
    "own_output",
    "surrogate",
    "LogNgramSurrogate",
    "shuffled_control",
    "shuffled_own_output",
)
# How many sentence pairs of validation are decoded to learn from.
_DECODED = 512
# How many batches of the training data a loss is scaled by.
_SCALED_BY = 8


@dataclass
class BenchmarkArguments(arms.BenchmarkArguments):
    arms: list[str] = field(default_factory=lambda: list(ARMS), metadata={"help": "To run.", "choices": ARMS})
    results: str = field(default="benchmarks/results/translation.json", metadata={"help": "Where they go."})


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
    arms.print_gains(benchmark.results, ["bleu_greedy", beam])
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
            return {"surrogate": NgramSurrogate()}
        case "minimum_risk" | "draft":
            loss = MinimumRiskLoss() if arm == "minimum_risk" else DraftSurrogate()
            return {"surrogate": scaled_in_weights(loss, experiment, checkpoint)}
        case "surrogate":
            return {}
        case "shuffled_control":
            metric, predictions = arms.ShuffledMetric("sacrebleu"), Path(checkpoint) / "reloss_state"
            return {"surrogate": arms.learned(TokenSequenceTask.default_surrogate, metric, predictions)}
        case "own_output" | "shuffled_own_output":
            done = experiment.out / arm / "surrogate"
            if done.exists():
                return {"surrogate": SurrogateLoss.from_pretrained(done)}
            metric = arms.ShuffledMetric("sacrebleu") if arm.startswith("shuffled") else "sacrebleu"
            return {"surrogate": arms.learned(OwnOutputSurrogate, metric, own_predictions(experiment))}
        case _:
            return {"surrogate_class": arm}


def scaled_in_weights(loss: SurrogateLoss, experiment: run_translation.Experiment, checkpoint: str) -> SurrogateLoss:
    """As `arms.scaled`, of a loss that reads other log-probabilities than cross-entropy: the gradients are those of the
    model's weights, on a few training batches."""
    model = experiment.load(checkpoint).to(experiment.args.device).train()
    task, collate = TokenSequenceTask(model, experiment.tokenizer), DataCollatorForSeq2Seq(experiment.tokenizer)
    rows, size = experiment.tokenized["train"], experiment.args.train_batch_size
    norms = []
    for inputs in DataLoader(rows.select(range(_SCALED_BY * size)), size, collate_fn=collate):
        inputs = inputs.to(experiment.args.device)
        for features_of in (loss, TokenCrossEntropy()):
            model.zero_grad()
            features = task.features(model, model(**task.without_labels(inputs)), inputs, features_of.reads)
            features_of.batch_loss(features).backward()
            gradients = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
            norms.append(torch.cat(gradients).norm())
    ratios = [cross_entropy / own for own, cross_entropy in zip(norms[::2], norms[1::2], strict=True)]
    with torch.no_grad():
        loss.log_scale.add_(torch.stack(ratios).log().mean())
    return loss


@torch.no_grad()
def own_predictions(experiment: run_translation.Experiment) -> Path:
    """Where the translations are of the first sentences of validation, by all checkpoints that the warm start saved."""
    folder = experiment.out / "own_predictions"
    if not folder.exists():
        rows, size = experiment.tokenized["validation"].select(range(_DECODED)), experiment.args.eval_batch_size
        snapshots = (experiment.out / "warm_start").glob("checkpoint-*")
        parts = []
        for number, snapshot in enumerate(sorted(snapshots, key=lambda path: int(path.name.rsplit("-", 1)[1]))):
            model = experiment.load(snapshot).to(experiment.args.device).eval()
            task, collate = TokenSequenceTask(model, experiment.tokenizer), DataCollatorForSeq2Seq(experiment.tokenizer)
            for inputs in DataLoader(rows, size, collate_fn=collate):
                inputs = inputs.to(experiment.args.device)
                parts.append(task.generated_predictions(model, inputs, Candidate(number), OwnOutputSurrogate.reads))
        Predictions.concatenate(parts).save(folder)
    return folder


if __name__ == "__main__":
    main()
