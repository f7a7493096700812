"""Prepares texts, pairs of texts and images, with their labels, for batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import common
import datasets
import numpy as np
import own_data
from transformers import BaseImageProcessor, PreTrainedTokenizerBase


@dataclass
class Labels:
    """The labels of a data set.

    Attributes:
        names: the names of the labels, in their order.
        several: whether an example has a list of labels instead of one.
    """

    names: list[str]
    several: bool

    @classmethod
    def of(cls, column: Sequence, feature: Any) -> "Labels":
        """The labels in a column of the training data. Its feature may name them."""
        inner = getattr(feature, "feature", feature)
        several = isinstance(column[0], list)
        if isinstance(inner, datasets.ClassLabel):
            return cls(inner.names, several)
        values = {value for row in column for value in row} if several else set(column)
        return cls([str(value) for value in sorted(values)], several)

    def encode(self, value: Any, feature: Any) -> int | list[float]:
        """The number of the class, or 0/1 for each label.

        Raises:
            ValueError: a label does not occur in the training data.
        """
        inner = getattr(feature, "feature", feature)
        named = isinstance(inner, datasets.ClassLabel)
        values = [inner.int2str(one) if named else str(one) for one in (value if self.several else [value])]
        unknown = sorted(set(values) - set(self.names))
        if unknown:
            raise ValueError(f"the labels {unknown} do not occur in the training data, which has {self.names}")
        if not self.several:
            return self.names.index(values[0])
        return [float(name in values) for name in self.names]

    def for_model(self) -> dict[str, Any]:
        """Arguments for the configuration of a model."""
        return {
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: number for number, name in enumerate(self.names)},
            "problem_type": ("multi" if self.several else "single") + "_label_classification",
        }


def load_data(data_args: Any, seed: int) -> datasets.DatasetDict:
    """`train`, `validation` and `test`. A share of `train` replaces a missing `validation`, which replaces a missing
    `test`."""
    if data_args.train_dir is not None:
        folders = {split: getattr(data_args, f"{split}_dir") for split in ("train", "validation", "test")}
        files = {split: f"{folder}/**" for split, folder in folders.items() if folder}
        raw = datasets.load_dataset("imagefolder", data_files=files)
    else:
        raw = common.read_splits(data_args, own_data.load_digits if data_args.image else own_data.load_names)
    if "validation" not in raw:
        parts = raw["train"].train_test_split(data_args.train_val_split, seed=seed)
        raw["train"], raw["validation"] = parts["train"], parts["test"]
    return common.limited(raw, data_args)


def with_labels(raw: datasets.DatasetDict, column: str) -> tuple[datasets.DatasetDict, Labels]:
    """The data with a column `labels`, and the `Labels`."""
    if column not in raw["train"].column_names:
        raise ValueError(f"label_column_name={column!r} is none of the columns {raw['train'].column_names}")
    feature = raw["train"].features[column]
    labels = Labels.of(raw["train"][column][:], feature)
    encoded = raw.map(lambda row: {"labels": labels.encode(row[column], feature)}, load_from_cache_file=False)
    return encoded, labels


def tokenize(raw: datasets.DatasetDict, tokenizer: PreTrainedTokenizerBase, data_args: Any) -> datasets.DatasetDict:
    """Tokenise one column of texts, or two as a pair. With a delimiter, the columns are joined."""
    columns = text_columns(raw["train"], data_args)

    def encode(batch):
        texts = [batch[column] for column in columns]
        if data_args.text_column_delimiter is not None:
            texts = [[data_args.text_column_delimiter.join(row) for row in zip(*texts, strict=True)]]
        return tokenizer(*texts, max_length=data_args.max_seq_length, truncation=True)

    unused = [name for name in raw["train"].column_names if name != "labels"]
    return raw.map(encode, batched=True, remove_columns=unused, load_from_cache_file=False)


def text_columns(rows: datasets.Dataset, data_args: Any) -> list[str]:
    """The named columns, or the first one or two columns of texts.

    Raises:
        ValueError: there is no such column, or there are more than two and no delimiter.
    """
    if data_args.text_column_names is not None:
        columns = data_args.text_column_names.split(",")
    else:
        others = [name for name in rows.column_names if name not in ("labels", data_args.label_column_name)]
        columns = [name for name in others if getattr(rows.features[name], "dtype", None) == "string"][:2]
    if not columns or (len(columns) > 2 and data_args.text_column_delimiter is None):
        raise ValueError(
            f"text_column_names={columns}: name one column, or two for pairs, or more with --text_column_delimiter"
        )
    return columns


def as_pixels(raw: datasets.DatasetDict, column: str, processor: BaseImageProcessor | None) -> datasets.DatasetDict:
    """Turn images into pixels on access."""
    prepare: Callable = _in_grey if processor is None else _processed(processor)

    def transform(batch):
        return {"pixel_values": prepare(batch[column]), "labels": batch["labels"]}

    return raw.with_transform(transform)


def _processed(processor: BaseImageProcessor) -> Callable:
    def prepare(images):
        return list(processor([image.convert("RGB") for image in images], return_tensors="np")["pixel_values"])

    return prepare


def _in_grey(images) -> list[np.ndarray]:
    """The images with one channel, from -1 to 1."""
    return [np.asarray(image.convert("L"), dtype=np.float32)[None] / 127.5 - 1 for image in images]
