"""Checks that training arguments fit a trainer: they need those of this library and those of its base class."""

import logging
import re
import sys
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
