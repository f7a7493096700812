"""Models of poses trained on a learned loss of PCK, and what a sceptic would train instead.

    python benchmarks/pose.py --shared ../shared/data --model path/to/efficientnet_lite0 --seeds 0

One run at a time is trained, and added to the results at once; what is there is skipped. Within a seed all arms
continue one warm start of the squared error, which has stopped rising, for some epochs, on the same images, with the
same fresh optimizer and schedule; losses take over from the third update on. Learning rates are chosen on validation
on the first seed. `--table` prints the tables.
"""

import argparse
from pathlib import Path

import torch
from classification import SWITCH, TRAINERS, Control, TimedTrainer, trained
from pose_results import ARMS, BY_METRIC, Results, print_tables
from poses import JUDGES, Data, arguments, load_poses, optimizer_of, scores, warm_start
from transformers import logging as transformers_logging

from reloss_hf import HardKeypointMining, HeatmapCrossEntropy, SurrogateLoss, collect_predictions
from reloss_hf.learning.scale import scale_to_cross_entropy

HAND_MADE = {"heatmap_cross_entropy": HeatmapCrossEntropy, "hard_keypoints": HardKeypointMining}
LEARNING = TRAINERS | {"paper": Control}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default="../shared/data", help="the folder of the data sets")
    parser.add_argument("--model", type=Path, default="runs/efficientnet_lite0", help="the folder of the backbone")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--metrics", nargs="+", choices=JUDGES, default=list(JUDGES), help="to learn losses of")
    parser.add_argument("--factors", nargs="+", type=float, default=[2 / 3, 4 / 3], help="of the warm start's rates")
    parser.add_argument("--epochs", type=float, default=3, help="of each arm")
    parser.add_argument("--warm_epochs", type=int, default=80, help="of the warm start, at most")
    parser.add_argument("--most", type=int, help="images of each split, for a quick look; all by default")
    parser.add_argument("--runs", type=Path, default="runs/pose", help="where warm starts are stored")
    parser.add_argument("--results", type=Path, default="benchmarks/results", help="the folder of the JSON file")
    parser.add_argument("--at_most", type=int, default=10**6, help="runs to be trained before it ends")
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, and end")
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    results = Results(options.results)
    if options.table:
        return print_tables(results)
    for seed in options.seeds:
        loaded: dict = {}
        for arm, metric, variant in planned(results, options, seed):
            if results.has(seed, arm, metric, variant):
                continue
            if options.at_most == 0:
                return None
            if not loaded:
                data = load_poses(options.shared, options.model, options.most)
                loaded = {"data": data, "start": warm_start(data, seed, options.runs, options.warm_epochs)}
            run = run_arm(arm, metric, variant, seed, folder=options.runs, epochs=options.epochs, **loaded)
            results.add(run)
            print(f"seed {seed}: {arm} {metric or ''} {variant}: {run['test']}", flush=True)
            options.at_most -= 1


def planned(results: Results, options, seed: int):
    """Arms, the metrics that they learn from, and their settings: all on the first seed, the chosen ones later."""
    for arm in options.arms:
        if arm == "paper" and seed > 0:
            continue
        for metric in [name for name in options.metrics if name in BY_METRIC.get(arm, ())] or [None]:
            if seed > 0:
                yield arm, metric, results.chosen(arm, metric)
                continue
            for factor in options.factors:
                yield arm, metric, {"factor": round(factor, 3)}


def run_arm(
    arm: str, metric: str | None, variant: dict, seed: int, data: Data, start: dict, folder: Path, epochs: float
) -> dict:
    """Train, and measure on validation and test."""
    torch.manual_seed(seed)
    model = data.new_model()
    model.load_state_dict(start["model"])
    changes: dict = {}
    if arm in LEARNING:
        name, options = JUDGES[metric or next(iter(JUDGES))]
        changes = {"metric": name, "metric_options": options, "surrogate_dataset": data.held_out}
    elif arm in HAND_MADE:
        changes = {"surrogate": scaled(HAND_MADE[arm](), model, data, folder)}
    trainer = LEARNING.get(arm, TimedTrainer)(
        model,
        arguments(
            folder,
            num_train_epochs=epochs,
            warmup_steps=20,
            seed=seed,
            surrogate_start=None if arm == "squared_error" else SWITCH,
            surrogate_class="GatedSquaredError" if arm == "paper" else None,
        ),
        train_dataset=data.rest,
        optimizers=(optimizer_of(model, variant["factor"]), None),
        **changes,
    )
    run = {"data": "lspet", "seed": seed, "arm": arm, "metric": metric, "variant": variant} | trained(trainer)
    if trainer.learning is not None and trainer.surrogate is not None:
        weights = {name: value.tolist() for name, value in trainer.surrogate.named_parameters()}
        run["learned"] = weights
    run["warm_start"] = {key: start[key] for key in ("curve", "seconds", "validation", "test")}
    return run | {part: scores(model, getattr(data, part)) for part in ("validation", "test")}


def scaled(loss: SurrogateLoss, model: torch.nn.Module, data: Data, folder: Path) -> SurrogateLoss:
    """With a gradient as long as that of the squared error on the slice, as learned losses have it."""
    trainer = TimedTrainer(model, arguments(folder, surrogate_start=None))
    scale_to_cross_entropy(loss, collect_predictions(trainer, data.held_out).features)
    return loss


if __name__ == "__main__":
    main()
