"""The task of a model whose class tells nothing: from its outputs and labels."""

from collections.abc import Sized
from typing import Any

from accelerate.utils import extract_model_from_parallel
from torch import nn

from ..tasks import Inputs, Task, columns_of_tasks, task_of_batch
from ..tasks.models import as_in_evaluation, takes
from .rehearsal import untouched


def task_of_first_examples(trainer: Any) -> type[Task] | None:
    """The task of the first examples of `train_dataset`; None where there are none to look at without taking them."""
    dataset = trainer.train_dataset
    if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__") or not len(dataset):
        return None
    collate = trainer._get_collator_with_removed_columns(trainer.data_collator)
    with untouched(trainer.model):
        batch = collate([dataset[place] for place in range(min(2, len(dataset)))])
    return task_of_inputs(trainer, batch)


def task_of_inputs(trainer: Any, inputs: dict[str, Any]) -> type[Task]:
    """The task that the outputs for a batch, and its labels, tell.

    Raises:
        ValueError: none does, or several.
    """
    model, inputs = extract_model_from_parallel(trainer.model), trainer._prepare_inputs(inputs)
    with untouched(model), as_in_evaluation(model):
        outputs = model(**without_our_columns(model, inputs))
    return task_of_batch(model, outputs, inputs)


def without_our_columns(model: nn.Module, inputs: Inputs) -> Inputs:
    """What a model takes of a batch, while its task is not known."""
    ours = columns_of_tasks()
    return {name: value for name, value in inputs.items() if name not in ours and takes(model, name)}
