"""Taggers trained on a learned loss of entity F1, and what a sceptic would train instead.

    python benchmarks/token_classification.py --shared ../shared/data --data wnut17 --seeds 0

One run at a time is trained, and added to the results at once; what is there is skipped. Within a data set and a seed
all arms continue one warm start of cross-entropy, which has stopped rising, for an epoch, on the same sentences, with
the same fresh optimizer and schedule; losses take over from the third update on. Learning rates, the weight of `O` and
the form of the Dice loss are chosen on validation on the first seed. `--table` prints the table.
"""

import argparse
from itertools import product
from pathlib import Path

import torch
from classification import SWITCH, TRAINERS, TimedTrainer, scaled, trained
from classifiers import arguments
from one_metric_results import Results
from taggers import DATA, Data, load_sentences, optimizer_of, predict, scores, warm_start
from transformers import logging as transformers_logging

from reloss_hf import (
    OutsideWeightedCrossEntropy,
    ReLossTrainingArguments,
    SurrogateLoss,
    TagDiceLoss,
    TagSoftF1Loss,
)

ARMS = ("cross_entropy", "o_weight", "dice", "as_written", "surrogate", "shuffled_control")
# What is tried beside learning rates.
SETTINGS = {"o_weight": {"weight": (0.1, 0.3, 0.5)}, "dice": {"of": ("tokens", "batch")}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default="../shared/data", help="the folder of the data sets")
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--factors", nargs="+", type=float, default=[2 / 3, 4 / 3], help="of the warm start's rates")
    parser.add_argument("--most", type=int, help="sentences of each split, for a quick look; all by default")
    parser.add_argument("--runs", type=Path, default="runs/token_classification", help="where warm starts are stored")
    parser.add_argument("--results", type=Path, default="benchmarks/results", help="the folder of the JSON file")
    parser.add_argument("--at_most", type=int, default=10**6, help="runs to be trained before it ends")
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and end")
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    path = options.results / "token_classification.json"
    results = Results(path, ARMS, "entity F1", "f1", ("precision", "recall"))
    if options.table:
        return results.print_tables()
    for seed in options.seeds:
        for name in options.data:
            loaded: dict = {}
            for arm, variant in planned(results, options, name, seed):
                if results.has(name, seed, arm, variant):
                    continue
                if options.at_most == 0:
                    return None
                if not loaded:
                    data = load_sentences(name, options.shared, options.most)
                    loaded = {"data": data, "start": warm_start(name, data, seed, options.runs)}
                run = run_arm(arm, variant, name, seed, folder=options.runs, **loaded)
                results.add(run)
                print(f"{name}, seed {seed}: {arm} {variant}: {run['test']}", flush=True)
                options.at_most -= 1


def planned(results: Results, options, name: str, seed: int):
    """Arms and their settings: all on the first seed, the chosen ones later."""
    for arm in options.arms:
        if seed > 0:
            yield arm, results.chosen(name, arm)
            continue
        tried = {"factor": [round(factor, 3) for factor in options.factors]} | SETTINGS.get(arm, {})
        for values in product(*tried.values()):
            yield arm, dict(zip(tried, values, strict=True))


def run_arm(arm: str, variant: dict, name: str, seed: int, data: Data, start: dict, folder: Path) -> dict:
    """Train, and measure on validation and test."""
    torch.manual_seed(seed)
    model = data.new_model()
    model.load_state_dict(start["model"])
    if arm in TRAINERS:
        changes = {"metric": "seqeval", "surrogate_dataset": data.held_out}
    elif arm == "cross_entropy":
        changes = {}
    else:
        changes = {"surrogate": scaled(hand_made(arm, variant, data), start["held_out"])}
    switch = None if arm == "cross_entropy" else SWITCH
    args = arguments(folder, data, num_train_epochs=1, warmup_steps=10, seed=seed, surrogate_start=switch)
    trainer = TRAINERS.get(arm, TimedTrainer)(
        model,
        ReLossTrainingArguments(**args),
        train_dataset=data.rest,
        data_collator=data.collate,
        optimizers=(optimizer_of(model, variant["factor"]), None),
        **changes,
    )
    run = {"data": name, "seed": seed, "arm": arm, "variant": variant, "bf16": data.bf16} | trained(trainer)
    if trainer.learning is not None and trainer.surrogate is not None:
        costs = {kind: found.tolist() for kind, found in trainer.surrogate.error_costs().items()}
        run["costs"] = {kind: dict(zip(data.names, _rounded(found), strict=True)) for kind, found in costs.items()}
    run["warm_start"] = {key: start[key] for key in ("curve", "seconds", "validation", "test")}
    for part in ("validation", "test"):
        run[part] = scores(predict(model, getattr(data, part), data.collate), data.names)
    return run


def hand_made(arm: str, variant: dict, data: Data) -> SurrogateLoss:
    outside = data.names.index("O")
    if arm == "o_weight":
        return OutsideWeightedCrossEntropy(variant["weight"], outside)
    return TagDiceLoss() if variant["of"] == "tokens" else TagSoftF1Loss(outside=outside)


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]


if __name__ == "__main__":
    main()
