"""Checks that training arguments fit a trainer: they need those of this library and those of its base class."""

import logging
import re
import sys
from collections.abc import Callable
from typing import Any

from transformers import Trainer, TrainingArguments

from ..training_args import ReLossArguments, ReLossSeq2SeqTrainingArguments, ReLossTrainingArguments

logger = logging.getLogger(__name__)

_READY = {cls.__mro__[2]: cls.__name__ for cls in (ReLossTrainingArguments, ReLossSeq2SeqTrainingArguments)}


def require_arguments(trainer_class: type, arguments: Any) -> None:
    """Raises TypeError unless the arguments belong to this library and to the base class of the trainer. The message
    shows the class to write."""
    wanted = arguments_class(trainer_class)
    if isinstance(arguments, ReLossArguments) and isinstance(arguments, wanted):
        return
    given = type(arguments)
    base = given if issubclass(given, wanted) else wanted
    ready = f"{_READY[base]}, or " if base in _READY else ""
    name = "None" if arguments is None else f"a {given.__name__}"
    raise TypeError(
        f"args is {name}: pass {ready}an object of a class of your own, "
        f"@dataclass class MyArguments(ReLossArguments, {base.__name__}): ..."
    )


def warn_of_incomparable_losses(arguments: ReLossArguments) -> None:
    """Warn if the best model would be chosen by a loss that changes at the switch."""
    name = arguments.metric_for_best_model
    if name in ("loss", "eval_loss") and arguments.surrogate_start:
        logger.warning(
            "metric_for_best_model=%r compares the loss before the switch with the surrogate after it: pass the "
            "name of a metric that compute_metrics returns",
            name,
        )


def require_no_other_loss(arguments: ReLossArguments, base_loss_name: str, compute_loss: Callable) -> None:
    """Warn of a `compute_loss` that is never called, because the task computes the loss before the switch itself.

    Args:
        arguments: the training arguments.
        base_loss_name: the name of the loss before the switch.
        compute_loss: the method of the class that the trainer extends.

    Raises:
        ValueError: label smoothing is asked for, and this loss has none.
    """
    if arguments.label_smoothing_factor:
        raise ValueError(
            f"label_smoothing_factor={arguments.label_smoothing_factor} has no effect on the {base_loss_name} loss: "
            "leave it at 0"
        )
    if compute_loss.__func__ is not Trainer.compute_loss:
        logger.warning(
            "%s is never called, because the loss before the switch is always %s for this model: override compute_loss "
            "of the ReLoss trainer, and call super().compute_loss() in it",
            compute_loss.__qualname__,
            base_loss_name,
        )


def arguments_class(trainer_class: type) -> type[TrainingArguments]:
    """The class of arguments that a trainer takes: the type hint of `args` in its `__init__`."""
    for parent in trainer_class.__mro__:
        if issubclass(parent, Trainer) and "args" in getattr(vars(parent).get("__init__"), "__annotations__", {}):
            return _named_in(vars(parent)["__init__"].__annotations__["args"], sys.modules[parent.__module__])
    return TrainingArguments


def _named_in(annotation: Any, module: Any) -> type[TrainingArguments]:
    """The most derived class of arguments in a type hint, which may be a string."""
    words = re.findall(r"\w+", getattr(annotation, "__name__", "") + " " + str(annotation))
    found = [value for value in (getattr(module, word, None) for word in words) if isinstance(value, type)]
    found = [value for value in found if issubclass(value, TrainingArguments)]
    return max(found, key=lambda value: len(value.__mro__), default=TrainingArguments)
