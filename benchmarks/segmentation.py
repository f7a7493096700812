"""Segmentation trained on a learned loss of mean IoU, and what a sceptic would train instead.

    python benchmarks/segmentation.py --shared ../shared/data --pictures_model path/to/folder --seeds 0

One run at a time is trained, and added to the results at once; what is there is skipped. Within a data set and a seed
all arms continue one warm start of cross-entropy, which has stopped rising, for some epochs, on the same images, with
the same fresh optimizer and schedule; losses take over from the third update on. Learning rates, and the power of class
weights, are chosen on validation on the first seed. `--table` prints the tables. The body needs the package `timm`.
"""

import argparse
from itertools import product
from pathlib import Path

import torch
from classification import SWITCH, TRAINERS, TimedTrainer, scaled, trained
from one_metric_results import Results
from segmenters import NAMES, Data, collate, load_scenes, optimizer_of, scores, settings, warm_start
from transformers import logging as transformers_logging

from reloss_hf import (
    PixelJaccardLoss,
    PixelLovaszLoss,
    PixelWeightedCrossEntropy,
    ReLossTrainingArguments,
    SurrogateLoss,
)

DATA = ("camvid",)
ARMS = ("cross_entropy", "class_weights", "soft_jaccard", "lovasz", "as_written", "surrogate", "shuffled_control")
# What is tried beside learning rates.
SETTINGS = {"class_weights": {"power": (1.0, 0.5)}}
EPOCHS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default="../shared/data", help="the folder of the data sets")
    parser.add_argument("--pictures_model", type=Path, help="the folder of EfficientNet-Lite0")
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--factors", nargs="+", type=float, default=[2 / 3, 4 / 3], help="of the warm start's rates")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each arm")
    parser.add_argument("--warm_epochs", type=int, help="of the warm start, at most, for a quick look")
    parser.add_argument("--most", type=int, help="images of each split, for a quick look; all by default")
    parser.add_argument("--runs", type=Path, default="runs/segmentation", help="where warm starts are stored")
    parser.add_argument("--results", type=Path, default="benchmarks/results", help="the folder of the JSON file")
    parser.add_argument("--at_most", type=int, default=10**6, help="runs to be trained before it ends")
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, and end")
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    others = ("mean_accuracy", "overall_accuracy")
    results = Results(options.results / "segmentation.json", ARMS, "mean IoU", "mean_iou", others, by_class="iou")
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
                    data = load_scenes(name, options.shared, options.pictures_model, options.most)
                    start = warm_start(name, data, seed, options.runs, options.warm_epochs)
                    loaded = {"data": data, "start": start, "epochs": options.epochs}
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


def run_arm(arm: str, variant: dict, name: str, seed: int, data: Data, start: dict, epochs: int, folder: Path) -> dict:
    """Train, and measure on validation and test."""
    torch.manual_seed(seed)
    model = data.new_model()
    model.load_state_dict(start["model"])
    if arm in TRAINERS:
        changes = {"metric": "mean_iou", "surrogate_dataset": data.held_out}
    elif arm == "cross_entropy":
        changes = {}
    else:
        changes = {"surrogate": scaled(hand_made(arm, variant, data), start["held_out"])}
    switch = None if arm == "cross_entropy" else SWITCH
    args = settings(folder, data, num_train_epochs=epochs, warmup_steps=10, seed=seed, surrogate_start=switch)
    trainer = TRAINERS.get(arm, TimedTrainer)(
        model,
        ReLossTrainingArguments(**args),
        train_dataset=data.rest,
        data_collator=collate,
        optimizers=(optimizer_of(model, variant["factor"]), None),
        **changes,
    )
    run = {"data": name, "seed": seed, "arm": arm, "variant": variant, "epochs": epochs} | trained(trainer)
    if trainer.learning is not None and trainer.surrogate is not None:
        costs = {kind: found.tolist() for kind, found in trainer.surrogate.error_costs().items()}
        run["costs"] = {kind: dict(zip(NAMES, _rounded(found), strict=True)) for kind, found in costs.items()}
    run["warm_start"] = {key: start[key] for key in ("curve", "seconds", "validation", "test")}
    for part in ("validation", "test"):
        run[part] = scores(model, getattr(data, part))
    return run


def hand_made(arm: str, variant: dict, data: Data) -> SurrogateLoss:
    if arm == "soft_jaccard":
        return PixelJaccardLoss()
    if arm == "lovasz":
        return PixelLovaszLoss()
    masks = torch.cat([torch.from_numpy(mask).flatten() for mask in data.rest["labels"][:]]).long()
    counts = masks[masks < len(NAMES)].bincount(minlength=len(NAMES))
    return PixelWeightedCrossEntropy((counts / counts.sum()).tolist(), power=variant["power"])


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]


if __name__ == "__main__":
    main()
