"""Holds out a slice of the training data. A surrogate is learned from it, and the model is not trained on it."""

import logging
from collections.abc import Sized
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import Subset

from ..tasks import CandidateTask

logger = logging.getLogger(__name__)

_LABEL_COLUMNS = ("labels", "label", "label_ids")


def held_out_slice(train_dataset: Any, task: CandidateTask, share: float, seed: int) -> tuple[Any, Any]:
    """The training data without the slice, and the slice. The same seed gives the same slice. It has every label that
    the training data can spare an example of.

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
    size = max(1, round(share * len(train_dataset)))
    order = torch.randperm(len(train_dataset), generator=torch.Generator().manual_seed(seed))
    table = _label_table(train_dataset, task)
    if table is not None:
        order = _all_labels_first(order, table, size)
    rest, held_out = sorted(order[size:].tolist()), sorted(order[:size].tolist())
    logger.warning(
        "%d of the %d training examples are held out to learn the surrogate from: to train on all of them, pass "
        "surrogate_dataset=",
        len(held_out),
        len(train_dataset),
    )
    return _rows(train_dataset, rest), task.held_out(_rows(train_dataset, held_out))


def warn_of_missing_labels(held_out: Any, task: CandidateTask) -> None:
    """Warn of labels that no example of the slice has."""
    table = _label_table(held_out, task)
    if table is not None:
        missing = (table.sum(0) == 0).nonzero().flatten().tolist()
        if missing:
            logger.warning(
                "The labels %s never occur in the data that the surrogate is learned from, so they get the average "
                "cost: to learn their costs, pass surrogate_dataset= or a larger surrogate_held_out_share=",
                missing,
            )


def labels_of(dataset: Any) -> list:
    """The labels of all examples of a data set.

    Raises:
        ValueError: the data set has no column of labels.
    """
    names = dataset.column_names if isinstance(dataset, datasets.Dataset) else ()
    column = next((name for name in _LABEL_COLUMNS if name in names), None)
    if column is None:
        raise ValueError(
            f"the classes of train_dataset={type(dataset).__name__} cannot be counted, as it has no column "
            f"{' or '.join(_LABEL_COLUMNS)}: pass a datasets.Dataset with one, or pass frequencies= to the loss"
        )
    return dataset.with_format(None)[column][:]


def _label_table(dataset: Any, task: CandidateTask) -> Tensor | None:
    if "labels" not in task.labels:
        return None
    try:
        labels = labels_of(dataset)
    except ValueError:
        return None
    return task.label_table(labels)


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
