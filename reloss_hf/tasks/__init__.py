"""Tasks: one file each, named here."""

import torch

from .base import Candidate, Task
from .question_answering import QuestionAnsweringTask
from .token_sequence import TokenSequenceTask

# The first that handles a model is used.
TASKS: tuple[type[Task], ...] = (QuestionAnsweringTask, TokenSequenceTask)


def task_for(model: torch.nn.Module) -> type[Task]:
    """The task that fits a model.

    Raises:
        ValueError: none does.
    """
    found = next((task for task in TASKS if task.handles(model)), None)
    if found is None:
        raise ValueError(
            f"model={type(model).__name__} neither generates text nor answers questions with a span: there is no "
            f"surrogate for it; the tasks are {[task.name for task in TASKS]}"
        )
    return found


__all__ = ["TASKS", "Candidate", "QuestionAnsweringTask", "Task", "TokenSequenceTask", "task_for"]
