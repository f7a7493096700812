"""Fine-tune a model of poses on squared error and on a learned surrogate of PCK, from one warm start.

    python examples/pose/run_pose.py       # stick figures that it draws itself, a few minutes on two cores
    python examples/pose/run_pose.py --model_name_or_path usyd-community/vitpose-base-simple \
        --train_file train.parquet --validation_file validation.parquet --num_train_epochs 10 --learning_rate 1e-4

The files have the columns `image`, `keypoints`, (x, y) of each joint in pixels of the image, and `visible`; and `bbox`,
if a person does not fill the image. A model from scratch is first trained on heatmap cross-entropy, as the squared
error finds nothing from random weights in minutes. All arms continue the same warm start on the same data. A slice is
left out of that data, and the surrogate is learned from it. The table, `results.json` and a picture of predicted
skeletons go to `--output_dir`.
"""

import json
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import stick_figures
import torch
from from_scratch import build_model
from transformers import AutoImageProcessor, PreTrainedModel, VitPoseForPoseEstimation, set_seed
from transformers.trainer_utils import get_last_checkpoint

from reloss_hf import (
    HardKeypointMining,
    HeatmapCrossEntropy,
    LogExpectedMiss,
    ReLossTrainer,
    ReLossTrainingArguments,
    SoftArgmaxLoss,
    decode_poses,
    pose_compute_metrics,
    prepare_pose_features,
)
from reloss_hf.sharing.plots import to_png

sys.path.append(str(Path(__file__).resolve().parents[1]))
import common
from plots import plot_skeletons

# Losses that are not learned, by the number of joints.
NOT_LEARNED = {
    "heatmap_cross_entropy": lambda joints: HeatmapCrossEntropy(),
    "hard_keypoints": lambda joints: HardKeypointMining(),
    "soft_argmax": lambda joints: SoftArgmaxLoss(),
    "as_written": LogExpectedMiss,
}
ARMS = ("squared_error", *NOT_LEARNED, "surrogate")
_SCORES = ("pck", "oks", "ap")
_DRAWN = 4  # images in the picture


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A VitPose to fine-tune, on disk or the hub; by default a small one from scratch."},
    )
    ignore_mismatched_sizes: bool = field(default=False, metadata={"help": "Whether to drop a head of another size."})
    image_size: int = field(default=64, metadata={"help": "Pixels of the side of the input of a model from scratch."})
    patch: int = field(default=8, metadata={"help": "Pixels of the side of a patch of a model from scratch."})
    layers: int = field(default=3, metadata={"help": "Layers of a model from scratch."})
    width: int = field(default=64, metadata={"help": "Width of a model from scratch; its feed-forward is twice it."})
    heads: int = field(default=4, metadata={"help": "Attention heads of a model from scratch."})
    pretraining_epochs: float = field(
        default=6, metadata={"help": "Epochs of heatmap cross-entropy before the warm start of a model from scratch."}
    )


@dataclass
class DataArguments(common.DataArguments):
    names: list[str] = field(
        default_factory=lambda: list(stick_figures.NAMES),
        metadata={"help": "The names of the joints; left and right tell what is exchanged in mirrored images."},
    )
    augment: bool = field(default=True, metadata={"help": "Whether to mirror, scale and rotate training images."})
    sigma: float = field(default=1.0, metadata={"help": "Width of the targets in pixels of the heatmap."})
    metric_options: str = field(
        default='{"threshold": 0.1}', metadata={"help": 'Settings of pck: \'{"normalise_by": "box"}\'.'}
    )
    loss: list[str] = field(
        default_factory=lambda: ["squared_error", "surrogate"],
        metadata={"help": "The arms to run.", "choices": ARMS},
    )

    @property
    def options(self) -> dict:
        return json.loads(self.metric_options)


def main() -> None:
    model_args, data_args, args = parse_arguments()
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    experiment = make_experiment(model_args, data_args, args)
    if model_args.model_name_or_path is None:
        experiment.pretrain(model_args.pretraining_epochs)
    not_learned = {arm: {"surrogate": loss(len(data_args.names))} for arm, loss in NOT_LEARNED.items()}
    arms = common.arms_of(data_args.loss, "squared_error", not_learned)
    rows = experiment.compare(arms)
    if args.process_index == 0:
        experiment.draw(arms)
        common.print_table(rows, [*_SCORES, "pck_validation"])


def make_experiment(
    model_args: ModelArguments, data_args: DataArguments, args: ReLossTrainingArguments
) -> "Experiment":
    set_seed(args.seed)
    raw = common.limited(common.read_splits(data_args, stick_figures.load), data_args)
    common.hold_out(raw, args)
    processor, size, names = None, (model_args.image_size,) * 2, data_args.names
    if model_args.model_name_or_path is not None:
        processor = AutoImageProcessor.from_pretrained(model_args.model_name_or_path)
        size = processor.size["height"], processor.size["width"]
        model = VitPoseForPoseEstimation.from_pretrained(
            model_args.model_name_or_path,
            ignore_mismatched_sizes=model_args.ignore_mismatched_sizes,
            id2label=dict(enumerate(names)),
            label2id={name: number for number, name in enumerate(names)},
        )
    else:
        model = build_model(names, size, model_args.layers, model_args.width, model_args.heads, model_args.patch)
    data = {
        split: prepare_pose_features(
            raw[split],
            processor,
            size=size,
            augment=split == "train" and data_args.augment,
            names=names,
            sigma=data_args.sigma,
        )
        for split in raw
    }
    common.save_initial_model(model, args)
    return Experiment(args, Path(args.output_dir), data_args, data, size)


@dataclass
class Experiment(common.Experiment):
    data_args: DataArguments
    data: dict
    size: tuple[int, int]

    metric = "pck"

    def pretrain(self, epochs: float) -> None:
        """Train the initial model on heatmap cross-entropy, unless there is a warm start. From random weights the
        squared error stays at the mean pose for longer than the whole example takes."""
        if any((self.out / "warm_start").glob("checkpoint-*")):
            return
        changes = {"surrogate": HeatmapCrossEntropy(), "num_train_epochs": epochs, "surrogate_start": 0}
        trainer = self.trainer(common.INITIAL_MODEL, self.out / common.INITIAL_MODEL, **changes)
        trainer.train()
        trainer.save_model()

    def trainer(self, arm: str, model: str | Path, callbacks=None, surrogate=None, **changes) -> ReLossTrainer:
        return ReLossTrainer(
            model=self.load(model),
            args=self.arguments(arm, changes),
            train_dataset=self.data["train"],
            eval_dataset=self.data["validation"],
            surrogate_dataset=self.data["surrogate"],
            metric="pck",
            metric_options=self.data_args.options,
            surrogate=surrogate,
            callbacks=callbacks,
        )

    def load(self, folder: str | Path) -> PreTrainedModel:
        return VitPoseForPoseEstimation.from_pretrained(folder, attn_implementation=self.attention)

    def score(self, folder: str | Path) -> dict:
        """PCK, OKS and AP of a saved model."""
        model = self.load(folder)
        test, validation = (self.measure(model, split) for split in ("test", "validation"))
        scores = {name: round(test[f"test_{name}"], 4) for name in _SCORES}
        return scores | {"pck_validation": round(validation["validation_pck"], 4)}

    def validation_score(self, model: PreTrainedModel) -> float:
        return self.measure(model, "validation")["validation_pck"]

    def measure(self, model: PreTrainedModel, split: str) -> dict[str, float]:
        trainer = ReLossTrainer(
            model,
            self.arguments("scores", {"surrogate_start": None}),
            compute_metrics=pose_compute_metrics(self.size, **self.data_args.options),
            preprocess_logits_for_metrics=lambda heatmaps, labels: decode_poses(heatmaps, self.size),
        )
        return trainer.evaluate(self.data[split], metric_key_prefix=split)

    @torch.no_grad()
    def draw(self, arms: Iterable[str]) -> None:
        """Draw what the warm start and the arms predict for the first test images."""
        models = {"warm_start": get_last_checkpoint(self.out / "warm_start")}
        models |= {arm: self.out / arm for arm in arms}
        rows = [self.data["test"][number] for number in range(min(_DRAWN, len(self.data["test"])))]
        pixels = torch.stack([row["pixel_values"] for row in rows])
        poses = {
            name: decode_poses(self.load(folder).eval()(pixels).heatmaps, self.size).numpy()
            for name, folder in models.items()
        }
        low, high = pixels.amin((1, 2, 3), keepdim=True), pixels.amax((1, 2, 3), keepdim=True)
        images = ((pixels - low) / (high - low)).permute(0, 2, 3, 1).numpy()
        gold, visible = ([row[name].numpy() for row in rows] for name in ("keypoints", "visible"))
        figure = plot_skeletons(images, gold, visible, poses, stick_figures.limbs_of(self.data_args.names))
        (self.out / "skeletons.png").write_bytes(to_png(figure))


def parse_arguments(*more: type) -> tuple:
    """`ModelArguments`, `DataArguments`, `ReLossTrainingArguments`, and the arguments of more data classes."""
    return common.parse(
        ModelArguments,
        DataArguments,
        ReLossTrainingArguments,
        *more,
        warmup_steps=50,
        output_dir="out/pose",
        num_train_epochs=8,
        learning_rate=2e-3,
        surrogate_held_out_share=0.15,  # for small data sets; the trainer's default is for large ones
        surrogate_learn_again=1,
    )


if __name__ == "__main__":
    main()
