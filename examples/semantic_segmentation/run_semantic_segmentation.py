"""Fine-tune a model of semantic segmentation on cross-entropy and on a learned surrogate of mean IoU, from one warm
start.

    python examples/semantic_segmentation/run_semantic_segmentation.py  # scenes that it draws itself, a few minutes
    python examples/semantic_segmentation/run_semantic_segmentation.py --model_name_or_path nvidia/mit-b0 \
        --train_file train.parquet --validation_file validation.parquet --num_train_epochs 50 --learning_rate 6e-5

The files have the columns `image` and `label`, a mask of the numbers of the classes, in which 255 counts for nothing.
All arms continue the same warm start on the same data. A slice is left out of that data, and the surrogate is learned
from it. The table, `results.json`, with IoU by class, and a picture of some images go to `--output_dir`.
"""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
import scenes
import torch
from from_scratch import build_model, make_processor
from transformers import (
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    PreTrainedModel,
    default_data_collator,
    set_seed,
)

from reloss_hf import (
    PixelCosts,
    PixelDiceLoss,
    PixelFocalLoss,
    PixelJaccardLoss,
    PixelLovaszLoss,
    PixelWeightedCrossEntropy,
    ReLossTrainer,
    ReLossTrainingArguments,
    segmentation_compute_metrics,
)
from reloss_hf.sharing.plots import to_png

sys.path.append(str(Path(__file__).resolve().parents[1]))
import common
from plots import plot_masks

# Losses that are not learned, by the number of classes.
NOT_LEARNED = {
    "class_weights": lambda classes: PixelWeightedCrossEntropy(power=0.5),
    "focal": lambda classes: PixelFocalLoss(),
    "soft_jaccard": lambda classes: PixelJaccardLoss(),
    "dice": lambda classes: PixelDiceLoss(),
    "lovasz": lambda classes: PixelLovaszLoss(),
    "as_written": PixelCosts,
}
ARMS = ("cross_entropy", *NOT_LEARNED, "surrogate")
_SCORES = ("mean_iou", "mean_accuracy", "overall_accuracy")
_SHOWN = 4  # images of the picture


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A model to fine-tune, on disk or the hub; by default a small Segformer from scratch."},
    )
    image_processor_name: str | None = field(default=None, metadata={"help": "By default in the same place."})
    ignore_mismatched_sizes: bool = field(default=True, metadata={"help": "Whether to drop a head of another size."})
    width: int = field(default=16, metadata={"help": "Width of the first stage of a model from scratch."})
    layers: int = field(default=1, metadata={"help": "Layers of each stage of a model from scratch."})


@dataclass
class DataArguments(common.DataArguments):
    image_column_name: str = field(default="image", metadata={"help": "The column of the images."})
    label_column_name: str = field(default="label", metadata={"help": "The column of the masks."})
    class_names: list[str] | None = field(
        default=None, metadata={"help": "The names of the classes; by default their numbers in the training masks."}
    )
    do_reduce_labels: bool = field(
        default=False, metadata={"help": "Whether label 0 counts for nothing and others are lowered by 1."}
    )
    train_val_split: float = field(default=0.15, metadata={"help": "The share for validation, if no file is given."})
    loss: list[str] = field(
        default_factory=lambda: ["cross_entropy", "surrogate"],
        metadata={"help": "The arms to run.", "choices": ARMS},
    )


def main() -> None:
    model_args, data_args, args = parse_arguments()
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    experiment = make_experiment(model_args, data_args, args)
    not_learned = {arm: {"surrogate": loss(len(experiment.names))} for arm, loss in NOT_LEARNED.items()}
    arms = common.arms_of(data_args.loss, "cross_entropy", not_learned)
    rows = experiment.compare(arms)
    if args.process_index == 0:
        (experiment.out / "masks.png").write_bytes(to_png(experiment.picture(list(arms))))
        common.print_table(rows, [*_SCORES, "mean_iou_validation"])
        print_classes(rows)


def make_experiment(
    model_args: ModelArguments, data_args: DataArguments, args: ReLossTrainingArguments
) -> "Experiment":
    set_seed(args.seed)
    raw, names = read_data(data_args, args.seed)
    common.hold_out(raw, args)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    if model_args.model_name_or_path is not None:
        source = model_args.image_processor_name or model_args.model_name_or_path
        processor = AutoImageProcessor.from_pretrained(source, do_reduce_labels=data_args.do_reduce_labels)
        model = AutoModelForSemanticSegmentation.from_pretrained(
            model_args.model_name_or_path, ignore_mismatched_sizes=model_args.ignore_mismatched_sizes, **labels
        )
    else:
        processor = make_processor()
        processor.do_reduce_labels = data_args.do_reduce_labels
        model = build_model(model_args.width, model_args.layers, **labels)
    args.remove_unused_columns = False  # images are turned into pixels on access
    common.save_initial_model(model, args)
    data = raw.with_transform(_as_pixels(processor))
    return Experiment(args, Path(args.output_dir), data, names)


def read_data(data_args: DataArguments, seed: int) -> tuple[datasets.DatasetDict, list[str]]:
    """`train`, `validation` and `test`, with the columns `image` and `label`, and the names of the classes."""
    raw = common.read_splits(data_args, scenes.load)
    own = data_args.train_file is None and data_args.dataset_name is None
    if "validation" not in raw:
        parts = raw["train"].train_test_split(data_args.train_val_split, seed=seed)
        raw["train"], raw["validation"] = parts["train"], parts["test"]
    columns = {"image_column_name": "image", "label_column_name": "label"}
    raw = common.with_columns(common.limited(raw, data_args), data_args, columns).select_columns(["image", "label"])
    names = data_args.class_names or (list(scenes.NAMES) if own else _numbers(raw["train"], data_args))
    return raw, names


@dataclass
class Experiment(common.Experiment):
    data: datasets.DatasetDict
    names: list[str]

    metric = "mean_iou"

    def trainer(self, arm: str, model: str | Path, callbacks=None, surrogate=None, **changes) -> ReLossTrainer:
        return ReLossTrainer(
            model=self.load(model),
            args=self.arguments(arm, changes),
            train_dataset=self.data["train"],
            eval_dataset=self.data["validation"],
            surrogate_dataset=self.data["surrogate"],
            data_collator=default_data_collator,
            metric="mean_iou",
            surrogate=surrogate,
            callbacks=callbacks,
        )

    def load(self, folder: str | Path) -> PreTrainedModel:
        return AutoModelForSemanticSegmentation.from_pretrained(folder)

    def score(self, folder: str | Path) -> dict:
        """Mean IoU and accuracies of a saved model, and IoU by class."""
        model = self.load(folder)
        test, validation = (self.measure(model, split) for split in ("test", "validation"))
        scores = {name: round(test[f"test_{name}"], 4) for name in _SCORES}
        scores["mean_iou_validation"] = round(validation["validation_mean_iou"], 4)
        by_class = {name: test[f"test_iou_{name}"] for name in self.names}
        scores["iou"] = {name: None if np.isnan(value) else round(value, 4) for name, value in by_class.items()}
        return scores

    def validation_score(self, model: PreTrainedModel) -> float:
        return self.measure(model, "validation")["validation_mean_iou"]

    def measure(self, model: PreTrainedModel, split: str) -> dict[str, float]:
        trainer = ReLossTrainer(
            model,
            self.arguments("scores", {"surrogate_start": None, "batch_eval_metrics": True}),
            data_collator=default_data_collator,
            compute_metrics=segmentation_compute_metrics(model),
        )
        return trainer.evaluate(self.data[split], metric_key_prefix=split)

    @torch.no_grad()
    def picture(self, arms: list[str]):
        """Of some test images: the image, the gold mask, and what the models see."""
        rows = [self.data["test"][row] for row in range(min(_SHOWN, len(self.data["test"])))]
        masks = {"gold": [np.asarray(row["labels"]) for row in rows]}
        for arm in arms:
            model, masks[arm] = self.load(self.out / arm).eval(), []
            for row in rows:
                logits = model(pixel_values=torch.as_tensor(np.asarray(row["pixel_values"]))[None]).logits
                whole = torch.nn.functional.interpolate(logits, row["labels"].shape, mode="bilinear")
                masks[arm].append(whole[0].argmax(0).numpy())
        images = [np.asarray(row["pixel_values"]).transpose(1, 2, 0) for row in rows]
        spans = [(image.min(), np.ptp(image)) for image in images]
        shown = [
            (255 * (image - low) / span).astype(np.uint8) for image, (low, span) in zip(images, spans, strict=True)
        ]
        return plot_masks(shown, masks, self.names)


def print_classes(rows: list[dict]) -> None:
    classes = list(rows[0]["iou"])
    print(f"\n| IoU of | {' | '.join(classes)} |\n" + "|---" * (1 + len(classes)) + "|")
    for row in rows:
        values = ("" if value is None else str(value) for value in row["iou"].values())
        print(f"| {row['arm']} | {' | '.join(values)} |")


def _as_pixels(processor) -> Callable[[dict], dict]:
    def transform(batch: dict) -> dict:
        images, masks = [image.convert("RGB") for image in batch["image"]], [np.asarray(one) for one in batch["label"]]
        found = processor(images, segmentation_maps=masks, return_tensors="np")
        return {"pixel_values": list(found["pixel_values"]), "labels": list(found["labels"])}

    return transform


def _numbers(rows: datasets.Dataset, data_args: DataArguments) -> list[str]:
    """The numbers up to the largest in the masks, as names."""
    largest = max(int(mask[mask != scenes.VOID].max(initial=0)) for mask in map(np.asarray, rows["label"]))
    return [str(number) for number in range(largest + (not data_args.do_reduce_labels))]


def parse_arguments(*more: type) -> tuple:
    """`ModelArguments`, `DataArguments`, `ReLossTrainingArguments`, and the arguments of more data classes."""
    return common.parse(
        ModelArguments,
        DataArguments,
        ReLossTrainingArguments,
        *more,
        warmup_steps=30,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=16,
        output_dir="out/semantic_segmentation",
        num_train_epochs=12,
        learning_rate=4e-3,
        surrogate_held_out_share=0.2,  # for small data sets; the trainer's default is for large ones
    )


if __name__ == "__main__":
    main()
