"""Predictions that a surrogate learns from, in memory and on disk.

On disk they are shards in one folder: files `NAME-00000.safetensors`, `NAME-00001.safetensors`, ... of at most 1024
rows. Another run that writes there takes another name. A shard holds the features and `candidates` as tensors of one
length. Its header holds the metadata

| key | value |
|---|---|
| `format_version` | `"1"` |
| `predictions` | a JSON list of the same length: the decoded predictions in the metric's format |
| `references` | a JSON list of the same length: the references in the metric's format |
| `names` | a JSON list: the names of the classes; missing if the metric's format has none |

A shard is written under another name and then renamed, so it is never incomplete.
"""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import pad

FORMAT_VERSION = 1
_ROWS_OF_A_SHARD = 1024
# The value that fills up shorter tensors, where it is not 0. A label of -100 counts for nothing.
_PADDING = {"labels": -100}


@dataclass
class Predictions:
    """Scored predictions of `n` examples, independent of model and vocabulary.

    Attributes:
        features: the features that surrogates read, by name: tensors of shape `(n, ...)` on the CPU, padded with zeros,
            or with -100 if they are labels.
        predictions: the decoded predictions, in the metric's format; any JSON value.
        references: the gold references, in the metric's format; any JSON value. Equal references mark the same example.
        candidates: the candidate that made each prediction, int64 of shape `(n,)`. A candidate is the model at one time
            of its training, or a corruption of it. Candidates are numbered in the order in which they were made, and a
            group never mixes them.
        names: the names of the classes, in the order of their numbers, if the metric's format has names.
    """

    features: dict[str, Tensor]
    predictions: list[Any]
    references: list[Any]
    candidates: Tensor
    names: tuple[str, ...] = ()

    def __post_init__(self):
        lengths = {name: len(value) for name, value in self.features.items()}
        lengths |= {name: len(getattr(self, name)) for name in ("predictions", "references", "candidates")}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"all parts of Predictions must have the same length, but they have {lengths}")

    def __len__(self) -> int:
        return len(self.predictions)

    def select(self, rows: Tensor | Sequence[int]) -> "Predictions":
        """The given rows, in the given order."""
        rows = torch.as_tensor(rows, dtype=torch.long)
        return Predictions(
            {name: value[rows] for name, value in self.features.items()},
            [self.predictions[row] for row in rows.tolist()],
            [self.references[row] for row in rows.tolist()],
            self.candidates[rows],
            self.names,
        )

    def of_candidate(self, candidate: int | Tensor) -> "Predictions":
        """The rows of one candidate."""
        return self.select((self.candidates == candidate).nonzero().flatten())

    def in_order(self) -> "Predictions":
        """The rows sorted by candidate, reference and prediction, so that the order of gathering does not matter."""
        candidates = self.candidates.tolist()
        texts = [json.dumps(pair, sort_keys=True) for pair in zip(self.references, self.predictions, strict=True)]
        return self.select(sorted(range(len(self)), key=lambda row: (candidates[row], texts[row])))

    def example_keys(self) -> list[str]:
        """A key for each row. Rows with equal references share a key, so they are not split between learning and
        held-out rows."""
        return [json.dumps(reference, sort_keys=True, ensure_ascii=False) for reference in self.references]

    @classmethod
    def concatenate(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """All rows of all parts. Shorter tensors are padded at the end of each dimension."""
        if not parts:
            return cls({}, [], [], torch.empty(0, dtype=torch.long))
        return cls(
            {
                name: _pad_and_concatenate([part.features[name] for part in parts], _PADDING.get(name, 0))
                for name in parts[0].features
            },
            [prediction for part in parts for prediction in part.predictions],
            [reference for part in parts for reference in part.references],
            torch.cat([part.candidates for part in parts]),
            parts[0].names,
        )

    def save(self, folder: str | Path, name: str = "predictions") -> None:
        """Write the shards `NAME-*.safetensors` into `folder`.

        They replace the shards of the same name and keep all others. To append, save under another name.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        old = set(folder.glob(f"{name}-*.safetensors"))
        for number, start in enumerate(range(0, max(len(self), 1), _ROWS_OF_A_SHARD)):
            path = folder / f"{name}-{number:05d}.safetensors"
            self.select(range(start, min(start + _ROWS_OF_A_SHARD, len(self))))._save_shard(path)
            old.discard(path)
        for path in old:
            path.unlink()

    @classmethod
    def load(cls, folder: str | Path) -> "Predictions":
        """Read all shards in a folder. A truncated or damaged shard is left out, with a warning that names it.

        Raises:
            FileNotFoundError: `folder` holds no readable shard.
            ValueError: a newer version of this library wrote a shard.
        """
        shards = []
        for path in sorted(Path(folder).glob("*.safetensors")):
            try:
                shards.append(cls._load_shard(path))
            except (SafetensorError, json.JSONDecodeError, KeyError, OSError) as error:
                warnings.warn(f"{path} is damaged and left out: {type(error).__name__}: {error}", stacklevel=2)
        if not shards:
            raise FileNotFoundError(f"{folder} holds no predictions: no .safetensors shard in it can be read")
        return cls.concatenate([shard for shard in shards if len(shard)])

    def _save_shard(self, path: Path) -> None:
        tensors = {name: value.contiguous() for name, value in self.features.items()}
        metadata = {
            "format_version": str(FORMAT_VERSION),
            "predictions": json.dumps(self.predictions, ensure_ascii=False),
            "references": json.dumps(self.references, ensure_ascii=False),
        }
        if self.names:
            metadata["names"] = json.dumps(self.names, ensure_ascii=False)
        unfinished = path.with_suffix(".unfinished")
        save_file(tensors | {"candidates": self.candidates}, unfinished, metadata)
        os.replace(unfinished, path)

    @classmethod
    def _load_shard(cls, path: Path) -> "Predictions":
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            version = int(metadata["format_version"])
            if version > FORMAT_VERSION:
                raise ValueError(
                    f"{path} holds predictions of format {version}, newer than {FORMAT_VERSION}: upgrade reloss_hf"
                )
            features = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        candidates = features.pop("candidates")
        predictions, references = json.loads(metadata["predictions"]), json.loads(metadata["references"])
        return cls(features, predictions, references, candidates, tuple(json.loads(metadata.get("names", "[]"))))


def _pad_and_concatenate(tensors: list[Tensor], value: int) -> Tensor:
    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    padded = []
    for tensor in tensors:
        missing = [target - size for target, size in zip(shape, tensor.shape[1:], strict=True)]
        padded.append(pad(tensor, [amount for size in reversed(missing) for amount in (0, size)], value=value))
    return torch.cat(padded)
