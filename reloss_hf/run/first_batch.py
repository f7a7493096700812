"""Finds the task of a model of unknown class from its outputs and labels."""

from collections.abc import Sized
from typing import Any

from accelerate.utils import extract_model_from_parallel
from torch import nn

from ..tasks import Inputs, Task, columns_of_tasks, labels_of_tasks, task_of_batch
from ..tasks.models import as_in_evaluation, takes
from .rehearsal import untouched


def first_examples(trainer: Any) -> Inputs | None:
    """A batch of the first examples of `train_dataset`; None if reading them would consume them."""
    dataset = trainer.train_dataset
    if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__") or not len(dataset):
        return None
    collate = trainer._get_collator_with_removed_columns(trainer.data_collator)
    with untouched(trainer.model):
        return trainer._prepare_inputs(collate([dataset[place] for place in range(min(2, len(dataset)))]))


def task_of_inputs(trainer: Any, inputs: dict[str, Any]) -> type[Task]:
    """The task that fits the outputs for a batch and its labels.

    Raises:
        ValueError: no task fits, or several do.
    """
    model, inputs = extract_model_from_parallel(trainer.model), trainer._prepare_inputs(inputs)
    with untouched(model), as_in_evaluation(model):
        inputs_of_model = without_our_columns(model, inputs)
        try:
            outputs = model(**inputs_of_model)
        except Exception:  # its own loss may refuse the labels, such as integers for several at once
            outputs = model(**{name: value for name, value in inputs_of_model.items() if name not in labels_of_tasks()})
    return task_of_batch(model, outputs, inputs)


def without_our_columns(model: nn.Module, inputs: Inputs) -> Inputs:
    """The part of a batch that a model takes while its task is unknown."""
    ours = columns_of_tasks()
    return {name: value for name, value in inputs.items() if name not in ours and takes(model, name)}
