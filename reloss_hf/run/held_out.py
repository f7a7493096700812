"""Holds out a slice of the training data. A surrogate is learned from it, and the model is not trained on it."""

import logging
from collections.abc import Sized
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import Subset

from ..tasks import CandidateTask
from .rehearsal import untouched

logger = logging.getLogger(__name__)


def held_out_slice(train_dataset: Any, task: CandidateTask, share: float, seed: int) -> tuple[Any, Any]:
    """The training data without the slice, and the slice. The same seed gives the same slice. It has every label that
    the training data can spare an example of. All windows of one text are in the same part.

    Raises:
        ValueError: no slice can be cut off.
    """
    if share == 0:
        raise ValueError(
            "surrogate_held_out_share=0 leaves no examples to learn a surrogate from: pass surrogate_dataset="
        )
    if not isinstance(train_dataset, Sized) or not hasattr(train_dataset, "__getitem__"):
        raise ValueError(
            f"train_dataset={type(train_dataset).__name__} has no length, so that no share of it can be held out for "
            "learning a surrogate: pass surrogate_dataset="
        )
    texts = numbers_of_texts(train_dataset, task)
    count = len(texts.unique())
    size = max(1, round(share * count))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    table = label_table(train_dataset, task)
    if table is not None:
        of_texts = table.new_zeros(count, table.shape[1]).index_add(0, texts, table).clamp(max=1)
        order = _all_labels_first(order, of_texts, size)
    inside = torch.isin(texts, order[:size])
    held_out, rest = (rows.nonzero().flatten().tolist() for rows in (inside, ~inside))
    logger.warning(
        "%d of the %d training examples are held out to learn the surrogate from: to train on all of them, pass "
        "surrogate_dataset=",
        len(held_out),
        len(train_dataset),
    )
    return _rows(train_dataset, rest), task.held_out(_rows(train_dataset, held_out))


def label_table(dataset: Any, task: CandidateTask) -> Tensor | None:
    """The labels of a data set as 0/1, shape `(examples, C)`; None if they cannot be read."""
    with untouched(task.model):  # rows may be drawn at random
        return task.label_table(dataset)


def numbers_of_texts(dataset: Any, task: CandidateTask) -> Tensor:
    """The number of the text that each row is a window of, from 0, shape `(rows,)`. Rows that are no windows are each a
    text of their own."""
    column = task.window_of
    if column is None or not isinstance(dataset, datasets.Dataset) or column not in dataset.column_names:
        return torch.arange(len(dataset))
    numbers: dict[Any, int] = {}
    texts = dataset.with_format(None)[column][:]
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts], dtype=torch.long)


def _all_labels_first(order: Tensor, table: Tensor, size: int) -> Tensor:
    """The order, with some examples moved to the front. The first `size` then have every label that occurs twice."""
    front, back = order[:size].tolist(), order[size:].tolist()
    for label in ((table.sum(0) >= 2) & (table[front].sum(0) == 0)).nonzero().flatten().tolist():
        found = next((row for row in back if table[row, label]), None)
        counts = table[front].sum(0)
        spare = next((row for row in reversed(front) if (counts[table[row] > 0] > 1).all()), None)
        if found is not None and spare is not None:
            front[front.index(spare)], back[back.index(found)] = found, spare
    return torch.tensor(front + back)


def _rows(dataset: Any, rows: list[int]) -> Any:
    return dataset.select(rows) if isinstance(dataset, datasets.Dataset) else Subset(dataset, rows)
