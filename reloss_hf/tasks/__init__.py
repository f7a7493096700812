"""The tasks. Each has a folder, and this module names them."""

from typing import Any

import torch
from torch import Tensor
from transformers.models.auto import modeling_auto

from ..surrogate import SurrogateLoss
from .base import Candidate, Inputs, NamedMetric, Task
from .classification.task import ClassificationTask
from .ctc.task import CtcTask
from .keypoints.task import KeypointsTask
from .models import class_names, is_known_as, model_and_wrapped
from .question_answering.task import QuestionAnsweringTask
from .same_examples import CandidateTask
from .semantic_segmentation.task import SemanticSegmentationTask
from .token_classification.task import TokenClassificationTask
from .token_sequence.task import TokenSequenceTask

TASKS: tuple[type[Task], ...] = (
    TokenSequenceTask,
    QuestionAnsweringTask,
    ClassificationTask,
    TokenClassificationTask,
    SemanticSegmentationTask,
    KeypointsTask,
    CtcTask,
)

# The classes of all models with a head that transformers knows.
_KNOWN_CLASSES = class_names(*(name for name in dir(modeling_auto) if name.startswith("MODEL_FOR_")))


def task_for(model: torch.nn.Module, name: str | None = None) -> type[Task] | None:
    """The task with this name. Without a name it is the task of the model's class, or of the class of the model that it
    wraps. None if transformers does not know the class.

    Raises:
        ValueError: no task has this name, or the class of the model is for none of the tasks, or for several.
    """
    if name is not None:
        return task_named(name)
    for module in model_and_wrapped(model):
        found = _only(type(model).__name__, [task for task in TASKS if task.handles(module)])
        if found is not None:
            return found
        if is_known_as(module, _KNOWN_CLASSES):
            raise ValueError(
                f"model={type(module).__name__} neither {' nor '.join(task.does for task in TASKS)}, so there is no "
                f"surrogate for it: pass a model for one of the tasks {_names()}"
            )
    return None


def task_named(name: str) -> type[Task]:
    """The task with this name.

    Raises:
        ValueError: no task has this name.
    """
    found = next((task for task in TASKS if task.name == name), None)
    if found is None:
        raise ValueError(f"task={name!r} is none of {_names()}: pass one of these, or None")
    return found


def task_of_batch(model: torch.nn.Module, outputs: Any, inputs: Inputs) -> type[Task]:
    """The task that fits the names and shapes of a model's outputs and labels.

    Raises:
        ValueError: no task fits, or several do.
    """
    found = _only(type(model).__name__, [task for task in TASKS if task.fits(outputs, inputs)])
    if found is None:
        names = sorted(outputs) if hasattr(outputs, "keys") else type(outputs).__name__
        raise ValueError(
            f"model={type(model).__name__} with outputs {names} for a batch of {sorted(inputs)} fits none of the tasks "
            f"{_names()}, so there is no surrogate for it: pass task= if it is one of these"
        )
    return found


def task_of_features(features: dict[str, Tensor]) -> type[Task]:
    """The task whose losses read these features.

    Raises:
        ValueError: no task has such losses.
    """
    found = next((task for task in TASKS if task.reads(features)), None)
    if found is None:
        raise ValueError(f"the predictions hold {sorted(features)}, but no loss of the tasks {_names()} reads these")
    return found


def labels_of_tasks() -> set[str]:
    """The names of the labels in the batches of any task."""
    return {name for task in TASKS for name in task.labels}


def named_metrics() -> dict[str, NamedMetric]:
    """The metrics of all tasks that need no download, by name."""
    return {name: metric for task in TASKS for name, metric in task.metrics.items()}


def columns_of_tasks() -> list[str]:
    """The columns of data sets that a task makes features from and that models do not take."""
    return list(dict.fromkeys(name for task in TASKS for name in task.columns))


def _only(model: str, tasks: list[type[Task]]) -> type[Task] | None:
    if len(tasks) > 1:
        raise ValueError(
            f"model={model} fits several tasks, {[task.name for task in tasks]}: pass the right one as task="
        )
    return tasks[0] if tasks else None


def _names() -> list[str]:
    return [task.name for task in TASKS]


__all__ = [
    "TASKS",
    "Candidate",
    "CandidateTask",
    "Inputs",
    "NamedMetric",
    "SurrogateLoss",
    "Task",
    "columns_of_tasks",
    "labels_of_tasks",
    "named_metrics",
    "task_for",
    "task_named",
    "task_of_batch",
    "task_of_features",
]
