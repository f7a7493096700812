"""Models of speech trained on a learned loss of word error rate, and what a sceptic would train instead.

    python benchmarks/speech.py --kinds ctc --seeds 0

The corpus is that of `examples/speech`; the voices of its test data are held out. One run at a time is trained, and
added to the results at once; what is there is skipped. Within a kind of model and a seed all arms resume one warm
start, with its optimizer and schedule. The factor of the learning rate is chosen on validation on the first seed.
Losses that are not learned have the gradient scale of the loss before the switch. `--table` prints the table.
"""

import argparse
import importlib
import sys
from pathlib import Path

import torch
from arms import LearningRateFactor, ShuffledMetric, learned
from one_metric_results import Results
from transformers import PreTrainedModel
from transformers import logging as transformers_logging

from reloss_hf import ExpectedWerLoss, MinimumWerLoss, NgramSurrogate, ReLossTrainer, SurrogateLoss

# In front, because this folder has a module of plots, too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "speech"))

# Continuing with the loss before the switch is called by its name.
BASE = {"ctc": "ctc", "whisper": "cross_entropy"}
ARMS = (*BASE.values(), "expected_wer", "as_written", "surrogate", "shuffled_control")
PARTS = ("cer", "substitutions", "deletions", "insertions")
SCRIPTS = {"ctc": "run_speech_recognition_ctc", "whisper": "run_speech_recognition_seq2seq"}
# How many batches of the training data a loss is scaled by.
_SCALED_BY = 8
# The share of the loss before the switch in expected word errors, as in the paper.
_SHARE = 0.1


class Control(ReLossTrainer):
    """Trains on what it learns, come what may."""

    def training_step(self, *positional, **keywords):
        self.learning._look = lambda *positional, **keywords: None  # that the metric falls is no reason to go back
        return super().training_step(*positional, **keywords)

    def _learn(self, *evidence):
        surrogate, report, _ = super()._learn(*evidence)
        return surrogate, report, None


class ShuffledControl(Control):
    """Gives the scores to the wrong candidates while it learns."""

    def _learn(self, *evidence):
        metric = self.learner.metric
        self.learner.metric = ShuffledMetric("wer")
        try:
            return super()._learn(*evidence)
        finally:
            self.learner.metric = metric


class AsWritten(Control):
    """Learns no costs: all are 1."""

    def _learn(self, *evidence):
        self.learner.steps = 0
        return super()._learn(*evidence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=SCRIPTS, default=list(SCRIPTS), help="of models")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--factors", nargs="+", type=float, default=[0.5, 1.0], help="of the warm start's rate")
    parser.add_argument("--flags", default="", help="flags for the example's script, in one string")
    parser.add_argument("--runs", type=Path, default="runs/speech", help="where models are stored")
    parser.add_argument("--results", type=Path, default="benchmarks/results", help="the folder of the JSON file")
    parser.add_argument("--at_most", type=int, default=10**6, help="runs to be trained before it ends")
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and end")
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    path, bases = options.results / "speech.json", tuple(BASE.values())
    results = Results(path, ARMS, "WER", "wer", PARTS, lower_is_better=True, bases=bases)
    if options.table:
        return results.print_tables()
    for seed in options.seeds:
        for kind in options.kinds:
            experiment = None
            for arm, variant in planned(results, options, kind, seed):
                if results.has(kind, seed, arm, variant):
                    continue
                if options.at_most == 0:
                    return None
                experiment = experiment or make_experiment(kind, seed, options)
                run = run_arm(experiment, arm, variant, kind, seed)
                results.add(run)
                print(f"{kind}, seed {seed}: {arm} {variant}: {run['test']}", flush=True)
                options.at_most -= 1


def planned(results: Results, options, kind: str, seed: int):
    """Arms and their settings: all on the first seed, the chosen ones later."""
    others = set(BASE.values()) - {BASE[kind]}
    for arm in (arm for arm in options.arms if arm not in others):
        for factor in options.factors if seed == 0 else (None,):
            yield arm, results.chosen(kind, arm) if factor is None else {"factor": factor}


def make_experiment(kind: str, seed: int, options):
    """The experiment of the example's script, with its default arguments but `--flags`."""
    script, given = importlib.import_module(SCRIPTS[kind]), sys.argv
    flags = ["--output_dir", str(options.runs / f"{kind}-{seed}"), "--seed", str(seed), "--disable_tqdm", "True"]
    sys.argv = [SCRIPTS[kind], *flags, *options.flags.split()]
    try:
        model_args, data_args, args = script.parse_arguments()
    finally:
        sys.argv = given
    return script.make_experiment(model_args, data_args, args)


def run_arm(experiment, arm: str, variant: dict, kind: str, seed: int) -> dict:
    """Train, and measure on validation and test."""
    start, checkpoint = experiment.warm_start()
    factor = variant["factor"]
    callbacks = [LearningRateFactor(factor)] if factor != 1 else []
    changed = CHANGES[kind](experiment, arm, checkpoint)
    row = experiment.arm(f"{arm}-x{factor:g}", checkpoint, callbacks=callbacks, **changed)
    run = {"data": kind, "seed": seed, "arm": arm, "variant": variant, "seconds": row["seconds"]}
    run |= {"updates": row["updates"], "refused": row["refused"]}
    run |= {"reports": [row["report"]]} if row["report"] else {}
    return run | {"warm_start": _scores(start)} | _scores(row)


def changes_of_ctc(experiment, arm: str, checkpoint: str) -> dict:
    match arm:
        case "ctc":
            return {"surrogate_start": None}
        case "expected_wer":
            loss = scaled(ExpectedWerLoss(), experiment, checkpoint)
            return {"surrogate": loss, "surrogate_cross_entropy_share": _SHARE}
        case "as_written":
            return {"cls": AsWritten}
        case "shuffled_control":
            return {"cls": ShuffledControl}
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
    with torch.no_grad():
        loss.log_scale.add_(torch.stack(ratios).log().mean().cpu())
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
