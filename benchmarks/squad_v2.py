"""Readers that abstain, trained on a learned loss of SQuAD 2.0's F1, and what a sceptic would train or tune instead.

    python benchmarks/squad_v2.py --shared ../shared/data --seeds 0

The data are SQuADShifts; a third of the questions has another passage of the same source, without the answer. One run
at a time is trained, and added to the results at once; what is there is skipped. Within a seed all arms continue one
warm start of cross-entropy, which has stopped rising, for an equal number of updates, on the same questions, with the
same fresh optimizer and schedule; losses take over from the third update on. Learning rates are chosen on validation on
the first seed. `cross_entropy_tuned` is cross-entropy with the threshold that is best on validation. `--table` prints
the table.
"""

import argparse
from pathlib import Path

import torch
from classification import SWITCH, TRAINERS, TimedTrainer, scaled, trained
from one_metric_results import Results
from readers import EPOCHS, Data, load_questions, optimizer_of, predict, scores, settings, warm_start
from transformers import logging as transformers_logging

from reloss_hf import AnswersCrossEntropy, ReLossTrainingArguments

NAME = "squadshifts"
ARMS = ("cross_entropy", "answers_cross_entropy", *TRAINERS)
TUNED = "cross_entropy_tuned"
_SHOWN = ("cross_entropy", TUNED, *ARMS[1:])


class SquadResults(Results):
    def of(self, data: str, arm: str) -> list[dict]:
        """Also those of cross-entropy with a tuned threshold."""
        if arm != TUNED:
            return super().of(data, arm)
        runs = super().of(data, "cross_entropy")
        return [run | {"arm": arm, "validation": run["tuned_validation"], "test": run["tuned"]} for run in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default="../shared/data", help="the folder of the data sets")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--factors", nargs="+", type=float, default=[2 / 3, 4 / 3], help="of the warm start's rates")
    parser.add_argument("--updates", type=int, default=48, help="of each arm")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the warm start, at most")
    parser.add_argument("--most", type=int, help="questions of each part, for a quick look; all by default")
    parser.add_argument("--runs", type=Path, default="runs/squad_v2", help="where warm starts are stored")
    parser.add_argument("--results", type=Path, default="benchmarks/results", help="the folder of the JSON file")
    parser.add_argument("--at_most", type=int, default=10**6, help="runs to be trained before it ends")
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and end")
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    others = ("exact", "answer", "no_answer")
    results = SquadResults(options.results / "squad_v2.json", _SHOWN, "SQuAD 2.0 F1", "f1", others)
    if options.table:
        return results.print_tables()
    data = None
    for seed in options.seeds:
        start = None
        for arm, variant in planned(results, options, seed):
            if results.has(NAME, seed, arm, variant):
                continue
            if options.at_most == 0:
                return None
            data = data or load_questions(options.shared, options.most)
            start = start or warm_start(data, seed, options.runs, options.epochs)
            run = run_arm(arm, variant, seed, data, start, options)
            results.add(run)
            print(f"seed {seed}: {arm} {variant}: {run['test']}", flush=True)
            options.at_most -= 1


def planned(results: SquadResults, options, seed: int):
    """Arms and their learning rates: all on the first seed, the chosen ones later."""
    for arm in options.arms:
        if seed > 0:
            yield arm, results.chosen(NAME, arm)
            continue
        for factor in options.factors:
            yield arm, {"factor": round(factor, 3)}


def run_arm(arm: str, variant: dict, seed: int, data: Data, start: dict, options) -> dict:
    """Train, and measure on validation and test."""
    torch.manual_seed(seed)
    model = data.new_model()
    model.load_state_dict(start["model"])
    changes = {}
    if arm in TRAINERS:
        changes = {"metric": "squad_v2", "surrogate_dataset": data.held_out.windows}
    elif arm == "answers_cross_entropy":
        changes = {"surrogate": scaled(AnswersCrossEntropy(), start["held_out"])}
    args = settings(
        options.runs,
        data,
        seed=seed,
        max_steps=options.updates,
        warmup_steps=options.updates // 10,
        surrogate_start=None if arm == "cross_entropy" else SWITCH,
        surrogate_learn_again=1,  # predicting the slice takes as long as several updates
    )
    trainer = TRAINERS.get(arm, TimedTrainer)(
        model,
        ReLossTrainingArguments(**args),
        train_dataset=data.rest.windows,
        processing_class=data.tokenizer,
        data_collator=data.collate,
        optimizers=(optimizer_of(model, variant["factor"]), None),
        **changes,
    )
    run = {"data": NAME, "seed": seed, "arm": arm, "variant": variant, "bf16": data.bf16} | trained(trainer)
    if trainer.learning is not None and trainer.surrogate is not None:
        run["costs"] = {kind: round(float(cost), 3) for kind, cost in trainer.surrogate.error_costs().items()}
        run["shift"] = round(float(trainer.surrogate.shift), 3)
    run["warm_start"] = {key: start[key] for key in ("curve", "seconds", "validation", "test")}
    logits = {part: predict(model, getattr(data, part), data) for part in ("validation", "test")}
    for part, found in logits.items():
        run[part] = scores(found, getattr(data, part))
    if arm == "cross_entropy":
        best = run["validation"]["best"]
        run["tuned_validation"], run["tuned"] = (scores(logits[p], getattr(data, p), best) for p in logits)
    return run


if __name__ == "__main__":
    main()
