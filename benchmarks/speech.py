"""Models of speech trained on a learned loss of word error rate, and what a sceptic would train instead.

    python benchmarks/speech.py --kinds ctc --seeds 0

The corpus is that of `examples/speech`; the voices of its test data are held out. One run at a time is trained, and
added to the results at once; what is there is skipped. Within a kind of model and a seed all arms resume one warm
start, with its optimizer and schedule. The factor of the learning rate is chosen on validation on the first seed.
Losses that are not learned have the gradient scale of the loss before the switch. In the rows `ctc_tuned` a penalty of
the blank is chosen on validation, after CTC. `--table` prints the table.
"""

import importlib
import sys
from pathlib import Path

import torch
from arms import LearningRateFactor, ShuffledMetric, experiment_of, learned, run_of
from one_by_one import TRAINERS, run_all, shared_flags
from results_file import Results
from transformers import PreTrainedModel

from reloss_hf import ExpectedWerLoss, MinimumWerLoss, NgramSurrogate, SurrogateLoss

# In front, because this folder has a module of plots, too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "speech"))

# Continuing with the loss before the switch is called by its name.
BASE = {"ctc": "ctc", "whisper": "cross_entropy"}
ARMS = (*BASE.values(), "expected_wer", "as_written", "surrogate", "shuffled_control")
PARTS = ("cer", "substitutions", "deletions", "insertions")
SCRIPTS = {"ctc": "run_speech_recognition_ctc", "whisper": "run_speech_recognition_seq2seq"}
# Of the blank, in nats.
_PENALTIES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
# How many batches of the training data a loss is scaled by.
_SCALED_BY = 8
# The share of the loss before the switch in expected word errors, as in the paper.
_SHARE = 0.1


def main() -> None:
    parser = shared_flags(__doc__, ARMS, "runs/speech")
    parser.add_argument("--kinds", nargs="+", choices=SCRIPTS, default=list(SCRIPTS), help="of models")
    parser.add_argument("--flags", default="", help="flags for the example's script, in one string")
    parser.set_defaults(factors=[0.5, 1.0])  # the schedule of the warm start goes on
    options = parser.parse_args()
    path, bases = options.results / "speech.json", tuple(BASE.values())
    metrics = {kind: {"WER": "wer"} for kind in SCRIPTS}
    rows = ("ctc", "ctc_tuned", *ARMS[1:])
    results = Results(path, rows, metrics, others=PARTS, lower_is_better=("WER",), bases=bases)
    if options.table:
        return results.print_arms()

    def load(kind: str, seed: int) -> dict:
        return {"experiment": make_experiment(kind, seed, options)}

    def skipped(kind: str, metric: str, arm: str, seed: int) -> bool:
        return arm in bases and arm != BASE[kind]

    return run_all(options, results, options.kinds, load, run_arm, skipped=skipped)


def make_experiment(kind: str, seed: int, options):
    """The experiment of the example's script, with its default arguments but `--flags`."""
    flags = ["--output_dir", str(options.runs / f"{kind}-{seed}"), "--seed", str(seed), "--disable_tqdm", "True"]
    return experiment_of(importlib.import_module(SCRIPTS[kind]), [*flags, *options.flags.split()])


def run_arm(arm: str, metric: None, variant: dict, kind: str, seed: int, experiment) -> dict:
    """Train, and measure on validation and test."""
    start, checkpoint = experiment.warm_start()
    factor = variant["factor"]
    callbacks = [LearningRateFactor(factor)] if factor != 1 else []
    changed = CHANGES[kind](experiment, arm, checkpoint)
    row = experiment.arm(f"{arm}-x{factor:g}", checkpoint, callbacks=callbacks, **changed)
    run = run_of(row)
    run |= tuned(experiment, experiment.out / f"{arm}-x{factor:g}") if arm == "ctc" else {}
    return run | {"warm_start": _scores(start)} | _scores(row)


def tuned(experiment, folder: Path) -> dict:
    """The scores of a saved model of CTC with the penalty of the blank that is best on validation."""
    model = experiment.load(folder).to(experiment.args.device)
    bias, blank, scores = model.lm_head.bias.data, model.config.pad_token_id, {}
    for penalty in _PENALTIES:
        bias[blank] -= penalty
        scores[penalty] = experiment.validation_score(model)
        bias[blank] += penalty
    best = min(scores, key=scores.get)
    bias[blank] -= best
    found = _scores(experiment.score_of(model))
    return {"penalty": best, "tuned": found["test"], "tuned_validation": found["validation"]}


def changes_of_ctc(experiment, arm: str, checkpoint: str) -> dict:
    match arm:
        case "ctc":
            return {"surrogate_start": None}
        case "expected_wer":
            loss = scaled(ExpectedWerLoss(), experiment, checkpoint)
            return {"surrogate": loss, "surrogate_cross_entropy_share": _SHARE}
        case "as_written" | "shuffled_control":
            return {"cls": TRAINERS[arm]}
        case _:
            return {}


def changes_of_whisper(experiment, arm: str, checkpoint: str) -> dict:
    match arm:
        case "cross_entropy":
            return {"surrogate_start": None}
        case "expected_wer":
            loss = scaled(MinimumWerLoss(), experiment, checkpoint)
            return {"surrogate": loss, "surrogate_cross_entropy_share": _SHARE}
        case "as_written":
            return {"surrogate": scaled(NgramSurrogate(), experiment, checkpoint)}
        case "shuffled_control":
            predictions = Path(checkpoint) / "reloss_state"
            return {"surrogate": learned(NgramSurrogate, ShuffledMetric("wer"), predictions)}
        case _:
            return {}


CHANGES = {"ctc": changes_of_ctc, "whisper": changes_of_whisper}


def scaled(loss: SurrogateLoss, experiment, checkpoint: str) -> SurrogateLoss:
    """With a gradient as long as that of the loss before the switch, in the model's weights, on a few batches."""
    trainer = experiment.trainer("scaled", checkpoint, surrogate_start=None)
    model, task, size = trainer.model.train(), trainer.task, experiment.args.train_batch_size
    rows = experiment.data["train"]
    ratios = []
    for start in range(0, min(_SCALED_BY * size, len(rows)), size):
        inputs = trainer.data_collator([rows[row] for row in range(start, min(start + size, len(rows)))])
        inputs = trainer._prepare_inputs({name: inputs[name] for name in inputs})
        base = _gradient(model, task.base_loss(_own_loss, model, inputs)[0])
        features = task.features(model, model(**task.without_labels(inputs)), inputs, loss.reads)
        ratios.append(base / _gradient(model, loss.batch_loss(features)))
    found = torch.stack(ratios).log().cpu()
    with torch.no_grad():  # batches in which nothing that was sampled has an error tell nothing
        loss.log_scale.add_(found[found.isfinite()].mean().nan_to_num())
    return loss


def _own_loss(model: PreTrainedModel, inputs: dict):
    outputs = model(**inputs)
    return outputs.loss, outputs


def _gradient(model: PreTrainedModel, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]).norm()


def _scores(row: dict) -> dict:
    """Error rates in percent."""
    test = {name: row[name] for name in ("wer", *PARTS)}
    percent = {name: round(100 * value, 3) for name, value in test.items()}
    return {"validation": {"wer": round(100 * row["wer_validation"], 3)}, "test": percent}


if __name__ == "__main__":
    main()
