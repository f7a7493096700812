"""Models of poses trained on a learned loss of PCK, and what a sceptic would train instead.

    python benchmarks/pose.py --shared ../shared/data --model path/to/efficientnet_lite0 --seeds 0

One run at a time is trained, and added to the results at once; what is there is skipped. Within a seed all arms
continue one warm start of the squared error, which has stopped rising, for some epochs, on the same images, with the
same fresh optimizer and schedule; losses take over from the third update on. Learning rates are chosen on validation
on the first seed. `--table` prints the tables.
"""

from pathlib import Path

import torch
from one_by_one import SWITCH, TRAINERS, Control, TimedTrainer, run_all, shared_flags, trained
from poses import JUDGES, Data, arguments, load_poses, optimizer_of, scores, warm_start
from results_file import Results

from reloss_hf import HardKeypointMining, HeatmapCrossEntropy, SurrogateLoss, collect_predictions
from reloss_hf.learning.scale import scale_to_cross_entropy

NAME = "lspet"
FIRST = next(iter(JUDGES))
ARMS = (
    "squared_error",
    "heatmap_cross_entropy",
    "hard_keypoints",
    "as_written",
    "surrogate",
    "shuffled_control",
    "paper",
)
BY_METRIC = ("surrogate", "shuffled_control", "paper")
HAND_MADE = {"heatmap_cross_entropy": HeatmapCrossEntropy, "hard_keypoints": HardKeypointMining}
LEARNING = TRAINERS | {"paper": Control}


def main() -> None:
    parser = shared_flags(__doc__, ARMS, "runs/pose")
    parser.add_argument("--model", type=Path, default="runs/efficientnet_lite0", help="the folder of the backbone")
    parser.add_argument("--metrics", nargs="+", choices=JUDGES, default=list(JUDGES), help="to learn losses of")
    parser.add_argument("--epochs", type=float, default=3, help="of each arm")
    parser.add_argument("--warm_epochs", type=int, default=80, help="of the warm start, at most")
    parser.add_argument("--most", type=int, help="images of each split, for a quick look; all by default")
    options = parser.parse_args()
    metrics = {NAME: {name: name for name in JUDGES}}
    path, bases = options.results / "pose.json", ("squared_error",)
    results = Results(path, ARMS, metrics, BY_METRIC, bases=bases, specificity_of={NAME: (NAME, "")})
    if options.table:
        results.print_arms()
        return results.print_specificity()

    def load(name: str, seed: int) -> dict:
        data = load_poses(options.shared, options.model, options.most)
        start = warm_start(data, seed, options.runs, options.warm_epochs)
        return {"data": data, "start": start, "flags": options}

    def skipped(name: str, metric: str, arm: str, seed: int) -> bool:
        unasked = arm in BY_METRIC and metric not in options.metrics
        return unasked or (arm in BY_METRIC[1:] and metric != FIRST) or (arm == "paper" and seed > 0)

    return run_all(options, results, [NAME], load, run_arm, skipped=skipped)


def run_arm(arm: str, metric: str | None, variant: dict, name: str, seed: int, data: Data, start: dict, flags) -> dict:
    """Train, and measure on validation and test."""
    torch.manual_seed(seed)
    model = data.new_model()
    model.load_state_dict(start["model"])
    changes: dict = {}
    if arm in LEARNING:
        judge, options = JUDGES[metric or FIRST]
        changes = {"metric": judge, "metric_options": options, "surrogate_dataset": data.held_out}
    elif arm in HAND_MADE:
        changes = {"surrogate": scaled(HAND_MADE[arm](), model, data, flags.runs)}
    trainer = LEARNING.get(arm, TimedTrainer)(
        model,
        arguments(
            flags.runs,
            num_train_epochs=flags.epochs,
            warmup_steps=20,
            seed=seed,
            surrogate_start=None if arm == "squared_error" else SWITCH,
            surrogate_class="GatedSquaredError" if arm == "paper" else None,
        ),
        train_dataset=data.rest,
        optimizers=(optimizer_of(model, variant["factor"]), None),
        **changes,
    )
    run = trained(trainer)
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
