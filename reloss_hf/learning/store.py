"""Collects predictions during training. The store is bounded, gathered over processes and saved in checkpoints."""

import json
from pathlib import Path

import torch
from accelerate.utils import gather_object

from .predictions import Predictions


class PredictionStore:
    """Collects at most `capacity` predictions of each candidate over all processes. Its size is bounded, and no part of
    the training displaces another.

    Args:
        capacity: examples of a candidate.
        process: the index of this process.
        processes: the number of processes. Each holds a part.

    Attributes:
        skipped: how many predictions were refused because one of their scores was NaN or infinite.
    """

    def __init__(self, capacity: int, process: int = 0, processes: int = 1):
        self.capacity, self.process, self.processes = capacity, process, processes
        self.clear()

    def clear(self) -> None:
        self.skipped = 0
        self._parts: list[Predictions] = []
        self._seen: dict[int, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def seen(self, candidate: int) -> int:
        """How many examples of all processes have a reserved place."""
        return self._seen.get(candidate, 0)

    def reserve(self, candidate: int, rows: int) -> range:
        """The places, from 0 to `capacity`, of the examples of this batch. Examples at its end may get none.

        All processes get batches of so many rows in turn. The same examples therefore have the same places with any
        number of processes. This holds only roughly if processes have unequally many, as with packed texts.
        """
        first = self.seen(candidate) + self.process * rows
        self._seen[candidate] = self.seen(candidate) + self.processes * rows
        return range(first, max(first, min(first + rows, self.capacity)))

    def add(self, predictions: Predictions) -> None:
        """Keep the rows with finite scores."""
        if not len(predictions):
            return
        finite = torch.ones(len(predictions), dtype=torch.bool)
        for value in predictions.features.values():
            finite &= value.reshape(len(value), -1).isfinite().all(1)
        self.skipped += int((~finite).sum())
        if finite.any():
            self._parts.append(predictions.select(finite.nonzero().flatten()))

    def predictions(self) -> Predictions:
        """All predictions that are kept."""
        self._parts = [Predictions.concatenate(self._parts)] if self._parts else []
        return self._parts[0] if self._parts else Predictions.concatenate([])

    def gather(self) -> "PredictionStore":
        """The stores of all processes in one. All processes have to call this, and each gets the result."""
        gathered = PredictionStore(self.capacity)
        gathered._seen = dict(self._seen)
        for predictions, skipped in gather_object([(self.predictions(), self.skipped)]):
            gathered._parts += [predictions] if len(predictions) else []
            gathered.skipped += skipped
        return gathered

    def save(self, folder: str | Path) -> None:
        self.predictions().save(folder)
        (Path(folder) / "store.json").write_text(
            json.dumps({"skipped": self.skipped, "seen": list(self._seen.items())})
        )

    def load(self, folder: str | Path) -> None:
        """Replace the content by what `save` wrote. The first of several processes then holds all of it."""
        self.clear()
        saved = json.loads((Path(folder) / "store.json").read_text())
        self._seen = dict(saved["seen"])
        if self.process == 0:
            self.skipped = saved["skipped"]
            loaded = Predictions.load(folder)
            self._parts = [loaded] if len(loaded) else []
