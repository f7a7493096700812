"""Pictures for the benchmark of classifiers, and the model that reads them."""

import io
from pathlib import Path

import datasets
import numpy as np
import torch
from classifiers import HELD_OUT_SHARE, Corpus, Data
from PIL import Image
from torch import Tensor
from transformers import TimmWrapperForImageClassification

# Of the square pictures; large enough to tell clothes apart, and half the work of 144.
SIDE = 96


def load_pictures(corpus: Corpus, shared: Path, model_folder: Path | None) -> Data:
    """Pictures as bytes; the same training examples and the same slice for every seed.

    Args:
        model_folder: the pretrained model.
    """
    if model_folder is None:
        raise SystemExit(
            f"{corpus.name} needs --pictures_model: make it by tools/efficientnet_lite0.py beside {shared}"
        )
    files = {part: str(shared / corpus.name / f"{part}.parquet") for part in ("train", "validation", "test")}
    rows = datasets.load_dataset("parquet", data_files=files)
    names = rows["train"].features["label"].names

    def some(split: str, count: int) -> datasets.Dataset:
        order = np.random.RandomState(0).permutation(len(rows[split]))[:count]
        part = rows[split].cast_column("image", datasets.Image(decode=False)).select(order)
        pixels = np.stack([_pixels(picture["bytes"]) for picture in part["image"]])
        labels = np.array(part["label"], dtype=np.int64)
        return datasets.Dataset.from_dict({"pixel_values": pixels, "labels": labels}).with_format("numpy")

    train = some("train", corpus.examples)
    held_out = round(HELD_OUT_SHARE * len(train))
    return Data(
        rest=train.select(range(held_out, len(train))),
        held_out=train.select(range(held_out)),
        validation=some("validation", corpus.judged),
        test=some("test", corpus.judged),
        names=names,
        several=False,
        collate=collate,
        new_model=lambda: MirroringForImageClassification.from_pretrained(
            model_folder, num_labels=len(names), ignore_mismatched_sizes=True
        ),
        bf16=False,
    )


class MirroringForImageClassification(TimmWrapperForImageClassification):
    """Sees half of the pictures mirrored while it is trained. The name tells transformers which loss it has."""

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **keywords):
        if self.training:
            mirrored = torch.rand(len(pixel_values), 1, 1, 1) < 0.5
            pixel_values = torch.where(mirrored, pixel_values.flip(-1), pixel_values)
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        return super().forward(pixel_values, labels=labels, **keywords)


def collate(rows: list[dict]) -> dict[str, Tensor]:
    """Pixels from -1 to 1, as the model was pretrained."""
    pixels = torch.from_numpy(np.stack([row["pixel_values"] for row in rows])).float() / 127.5 - 1
    batch = {"pixel_values": pixels}
    if "labels" in rows[0]:
        batch["labels"] = torch.tensor([int(row["labels"]) for row in rows])
    return batch


def _pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB").resize((SIDE, SIDE))).transpose(2, 0, 1)
