"""Data, models and warm starts of the benchmark of segmentation."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import datasets
import numpy as np
import timm
import torch
from classifiers import arguments
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from transformers import (
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedModel,
    TimmWrapperForImageClassification,
    TrainingArguments,
)
from transformers.modeling_outputs import SemanticSegmenterOutput
from warm_starts import CONSTANT_RATE, stored_start, with_two_rates

from reloss_hf import segmentation_compute_metrics
from reloss_hf.tasks.semantic_segmentation.pixels import sampled, targets_of_masks

NAMES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
VOID = 255
HEIGHT, WIDTH = 180, 240
# Of the shuffled training images: the first are held out to learn losses from, the others trained on.
HELD_OUT_SHARE = 0.2
BATCH, LEARNING_RATE, HEAD_LEARNING_RATE = 8, 3e-4, 1e-3
# The warm start is measured after so many epochs, and ends before where validation no longer rises.
EPOCHS, EPOCHS_BETWEEN = 60, 4
_SCORES = ("mean_iou", "mean_accuracy", "overall_accuracy")
_BODY = "tf_efficientnet_lite0"


@dataclass
class Data:
    """Attributes:
    rest: what is trained on.
    held_out: what losses are learned from.
    pictures_model: the folder of the pretrained body.
    """

    rest: datasets.Dataset
    held_out: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset
    pictures_model: Path
    bf16: bool = False

    def new_model(self) -> "Segmenter":
        model = Segmenter(SegmenterConfig(id2label=dict(enumerate(NAMES))))
        model.body.load_state_dict(_pretrained(self.pictures_model), strict=False)
        return model

    @property
    def updates_of_an_epoch(self) -> int:
        return -(-len(self.rest) // BATCH)


def load_scenes(name: str, shared: Path, pictures_model: Path | None, most: int | None = None) -> Data:
    """Images and masks as bytes; the same training examples and the same slice for every seed.

    Args:
        pictures_model: the folder of the pretrained body.
        most: images of each split, the first of them; None for all.
    """
    if pictures_model is None:
        raise SystemExit(f"{name} needs --pictures_model: make it by tools/efficientnet_lite0.py beside {shared}")
    splits = ("train", "validation", "test")
    rows = datasets.load_dataset(
        "parquet", data_files={part: str(shared / name / f"{part}.parquet") for part in splits}
    )
    parts = {part: _arrays(rows[part].select(range(min(most or len(rows[part]), len(rows[part]))))) for part in splits}
    order = np.random.RandomState(0).permutation(len(parts["train"]))
    held_out = round(HELD_OUT_SHARE * len(order))
    return Data(
        rest=parts["train"].select(order[held_out:]),
        held_out=parts["train"].select(order[:held_out]),
        validation=parts["validation"],
        test=parts["test"],
        pictures_model=pictures_model,
    )


class SegmenterConfig(PreTrainedConfig):
    model_type = "feature_pyramid_segmenter"

    def __init__(self, width: int = 48, semantic_loss_ignore_index: int = VOID, **keywords):
        super().__init__(**keywords)
        self.width, self.semantic_loss_ignore_index = width, semantic_loss_ignore_index


class Segmenter(PreTrainedModel):
    """EfficientNet-Lite0 at strides 4 to 32, added from coarse to fine, and logits at stride 4.

    Sees half of the images mirrored while it is trained, and mirrors their logits back.
    """

    config_class = SegmenterConfig
    main_input_name = "pixel_values"

    def __init__(self, config: SegmenterConfig):
        super().__init__(config)
        self.body = timm.create_model(_BODY, features_only=True, out_indices=(1, 2, 3, 4), pretrained=False)
        self.sides = nn.ModuleList(nn.Conv2d(size, config.width, 1) for size in self.body.feature_info.channels())
        self.head = nn.Sequential(
            nn.Conv2d(config.width, config.width, 3, padding=1, bias=False),
            nn.BatchNorm2d(config.width),
            nn.ReLU(),
            nn.Conv2d(config.width, config.num_labels, 1),
        )
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> SemanticSegmenterOutput:
        mirrored = torch.rand(len(pixel_values), 1, 1, 1, device=pixel_values.device) < 0.5 * self.training
        pixel_values = torch.where(mirrored, pixel_values.flip(-1), pixel_values)
        features = self.body(pixel_values.contiguous(memory_format=torch.channels_last))
        *finer, state = (side(found) for side, found in zip(self.sides, features, strict=True))
        for found in reversed(finer):
            state = found + interpolate(state, size=found.shape[2:], mode="bilinear", align_corners=False)
        logits = self.head(state)
        logits = torch.where(mirrored, logits.flip(-1), logits)
        loss = None
        if labels is not None:
            whole = interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
            loss = cross_entropy(whole, labels, ignore_index=self.config.semantic_loss_ignore_index)
        return SemanticSegmenterOutput(loss=loss, logits=logits)


def optimizer_of(model: Segmenter, factor: float = 1.0) -> torch.optim.Optimizer:
    return with_two_rates(model, ("sides.", "head."), factor * LEARNING_RATE, factor * HEAD_LEARNING_RATE)


def settings(folder: Path, data: Data, **changes) -> dict:
    """Training arguments that all runs have in common."""
    sizes = {"per_device_train_batch_size": BATCH, "per_device_eval_batch_size": 16}
    return arguments(folder, data, remove_unused_columns=False, batch_eval_metrics=True, **sizes, **changes)


def collate(rows: list[dict]) -> dict[str, Tensor]:
    """Pixels from -1 to 1, as the body was pretrained."""
    pixels = torch.from_numpy(np.stack([row["pixel_values"] for row in rows])).float() / 127.5 - 1
    return {"pixel_values": pixels, "labels": torch.from_numpy(np.stack([row["labels"] for row in rows])).long()}


@torch.no_grad()
def predict(model: Segmenter, part: datasets.Dataset, size: int = 16) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and masks of each batch."""
    model.eval()
    for start in range(0, len(part), size):
        inputs = collate([part[row] for row in range(start, min(start + size, len(part)))])
        yield model(inputs["pixel_values"]).logits, inputs["labels"]


def scores(model: Segmenter, part: datasets.Dataset) -> dict:
    """Mean IoU, mean accuracy, overall accuracy, and IoU by class, times 100."""
    compute = segmentation_compute_metrics(model)
    for logits, labels in predict(model, part):
        compute(EvalPrediction(predictions=logits, label_ids=labels), compute_result=False)
    found = compute(EvalPrediction(predictions=logits[:0], label_ids=labels[:0]), compute_result=True)
    of_classes = {name: round(100 * found[f"iou_{name}"], 3) for name in NAMES}
    return {name: round(100 * found[name], 3) for name in _SCORES} | {"iou": of_classes}


def warm_start(name: str, data: Data, seed: int, folder: Path, epochs: int | None = None) -> dict:
    """A model trained with cross-entropy at a constant rate until mean IoU on validation no longer rises, and features
    of a sample of pixels of the slice; trained where it is not stored in `folder`.

    Args:
        epochs: at most; None for the usual number.
    """
    epochs = epochs or EPOCHS

    def measured(model: PreTrainedModel) -> dict:
        held_out = [_sample(logits, labels) for logits, labels in predict(model, data.held_out, BATCH)]
        found = {part: scores(model, getattr(data, part)) for part in ("validation", "test")}
        return found | {"held_out": held_out}

    between = min(epochs, EPOCHS_BETWEEN) * data.updates_of_an_epoch
    changes = {"num_train_epochs": epochs, "eval_strategy": "steps", "eval_steps": between} | CONSTANT_RATE
    return stored_start(
        folder / f"{name}-{seed}.pt",
        data.new_model,
        TrainingArguments(**settings(folder, data, seed=seed, **changes)),
        optimizer_of,
        measured,
        score=lambda model: scores(model, data.validation)["mean_iou"],
        train_dataset=data.rest,
        eval_dataset=data.validation,
        data_collator=collate,
    )


def _sample(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    found = sampled(logits, targets_of_masks(labels, VOID), range(len(labels)))
    return dict(zip(("logits", "labels"), found, strict=True))


def _arrays(rows: datasets.Dataset) -> datasets.Dataset:
    """Images and masks as they are stored, without loss."""
    rows = rows.cast_column("image", datasets.Image(decode=False)).cast_column("label", datasets.Image(decode=False))
    images = np.stack([_pixels(row["image"], "RGB").transpose(2, 0, 1) for row in rows])
    masks = np.stack([_pixels(row["label"], None) for row in rows])
    shapes = {
        "pixel_values": datasets.Array3D((3, HEIGHT, WIDTH), "uint8"),
        "labels": datasets.Array2D((HEIGHT, WIDTH), "uint8"),
    }
    columns = {"pixel_values": list(images), "labels": list(masks)}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(shapes)).with_format("numpy")


def _pixels(picture: dict, mode: str | None) -> np.ndarray:
    image = Image.open(io.BytesIO(picture["bytes"]))
    return np.asarray(image.convert(mode) if mode else image)


@cache
def _pretrained(folder: Path) -> dict[str, Tensor]:
    return TimmWrapperForImageClassification.from_pretrained(folder).timm_model.state_dict()
