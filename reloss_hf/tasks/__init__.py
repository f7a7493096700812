"""Tasks: one file each, named here."""

import torch

from .base import Candidate, Task
from .question_answering import QuestionAnsweringTask
from .token_sequence import TokenSequenceTask

# The first that handles a model is used.
TASKS: tuple[type[Task], ...] = (QuestionAnsweringTask, TokenSequenceTask)


def task_for(model: torch.nn.Module) -> type[Task]:
    """The task that fits a model."""
    return next(task for task in TASKS if task.handles(model))


__all__ = ["TASKS", "Candidate", "QuestionAnsweringTask", "Task", "TokenSequenceTask", "task_for"]
