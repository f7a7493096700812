"""One batch goes through all that will happen later, before the first step: what fails, fails now."""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn

from ..tasks.models import forked_random_state

logger = logging.getLogger(__name__)


class RehearsalError(ValueError):
    """Something that would have failed later in the run, found before its first step."""


def rehearse(trainer: Any, inputs: dict[str, Any]) -> None:
    """Collect, score, learn, switch and compute the loss with its gradient on one batch. Weights, buffers, random
    states and the optimizer stay as they are.

    Args:
        trainer: a ReLoss trainer whose task is known.
        inputs: of the first micro-batch.

    Raises:
        RehearsalError: a part failed; the message says which, why, and what to change.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        logger.info("The model is sharded: what happens at the switch is not tried before the first step")
        return
    model = extract_model_from_parallel(trainer.model)
    inputs = trainer._prepare_inputs(inputs)
    base = trainer.task.base_loss_name
    with untouched(model), trainer.compute_loss_context_manager():
        model.train()
        surrogate = trainer.surrogate
        if trainer.learning is not None:
            outputs = _try(
                f"collecting the outputs of a {type(model).__name__}",
                f"Pass surrogate=, of which nothing is learned, or surrogate_start=None to train on {base} alone",
                lambda: trainer.outputs_to_collect(model, inputs),
            )
            surrogate = _try(
                f"learning a surrogate of metric={trainer.learner.metric.name!r}",
                "Pass another metric=, or leave it out to train on a loss as it is written",
                lambda: trainer.learning.rehearse(model, outputs, inputs),
            )
            surrogate = surrogate.to(trainer.args.device)
        surrogate = surrogate.requires_grad_(False)
        _try(
            f"the loss after the switch, surrogate={type(surrogate).__name__}, on a {type(model).__name__}",
            f"Pass another surrogate=, or surrogate_start=None to train on {base} alone",
            lambda: _gradient(model, trainer.surrogate_loss(model, inputs, surrogate).loss),
        )


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Whatever is done inside: random states, buffers and the mode of the model are afterwards as they were before."""
    training = {module: module.training for module in model.modules()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    states = random.getstate(), np.random.get_state()
    try:
        with forked_random_state():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        with torch.no_grad():
            for name, value in model.named_buffers():
                if name in buffers:
                    value.copy_(buffers[name])
        for module, mode in training.items():
            module.training = mode


def _gradient(model: nn.Module, loss: torch.Tensor) -> None:
    if not loss.requires_grad:
        raise ValueError("the loss depends on no weight that is trained")
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    try:
        torch.autograd.grad(loss, weights, allow_unused=True)
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
        # Checkpoints of this kind know backward() alone, which would leave gradients behind.
        logger.info("The gradient after the switch is not tried: the model's checkpoints are reentrant")


def _try(what: str, remedy: str, part: Callable[[], Any]) -> Any:
    try:
        return part()
    except Exception as error:
        if should_reduce_batch_size(error):  # for auto_find_batch_size, which tries again
            raise
        raise RehearsalError(
            f"Before the first step, {what}, was tried on one batch and failed: {type(error).__name__}: {error}. "
            f"{remedy}."
        ) from error
