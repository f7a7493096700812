"""Segmentation trained on a learned loss of mean IoU, and what a sceptic would train instead.

    python benchmarks/segmentation.py --shared ../shared/data --pictures_model path/to/folder --seeds 0

One run at a time is trained, and added to the results at once; what is there is skipped. Within a data set and a seed
all arms continue one warm start of cross-entropy, which has stopped rising, for some epochs, on the same images, with
the same fresh optimizer and schedule; losses take over from the third update on. Learning rates, and the power of class
weights, are chosen on validation on the first seed. `--table` prints the tables. The body needs the package `timm`.
"""

from pathlib import Path

import torch
from one_by_one import SWITCH, TRAINERS, TimedTrainer, run_all, scaled, shared_flags, trained
from results_file import Results
from segmenters import NAMES, Data, collate, load_scenes, optimizer_of, scores, settings, warm_start

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
EPOCHS = 5


def main() -> None:
    parser = shared_flags(__doc__, ARMS, "runs/segmentation")
    parser.add_argument("--pictures_model", type=Path, help="the folder of EfficientNet-Lite0")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each arm")
    parser.add_argument("--warm_epochs", type=int, help="of the warm start, at most, for a quick look")
    parser.add_argument("--most", type=int, help="images of each split, for a quick look; all by default")
    options = parser.parse_args()
    metrics = {name: {"mean IoU": "mean_iou"} for name in DATA}
    others = ("mean_accuracy", "overall_accuracy")
    results = Results(options.results / "segmentation.json", ARMS, metrics, others=others, by_class="iou")
    if options.table:
        return results.print_arms()

    def load(name: str, seed: int) -> dict:
        data = load_scenes(name, options.shared, options.pictures_model, options.most)
        start = warm_start(name, data, seed, options.runs, options.warm_epochs)
        return {"data": data, "start": start, "epochs": options.epochs, "folder": options.runs}

    return run_all(options, results, DATA, load, run_arm, SETTINGS)


def run_arm(
    arm: str, metric: None, variant: dict, name: str, seed: int, data: Data, start: dict, epochs: int, folder: Path
) -> dict:
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
    run = {"epochs": epochs} | trained(trainer)
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
