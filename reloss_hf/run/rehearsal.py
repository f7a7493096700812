"""Tries on one batch, before the first step, all that happens later in the run. Later failures then show up at once."""

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
    """A failure that the rehearsal found before the first step; without it, the run would fail later."""


def rehearse(trainer: Any, inputs: dict[str, Any]) -> None:
    """Collect, score, learn, switch and compute the loss with its gradient on one batch. Weights, buffers, random
    states and the optimizer do not change.

    Args:
        trainer: a ReLoss trainer whose task is known.
        inputs: the first micro-batch.

    Raises:
        RehearsalError: a part failed. The message says which part, why, and what to change.
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
                f"Pass surrogate= to learn nothing, or surrogate_start=None to train on {base} alone",
                lambda: trainer.outputs_to_collect(model, inputs),
            )
            surrogate = _try(
                f"learning a surrogate of metric={trainer.learner.metric.name!r}",
                "Pass another metric=, or pass none to train without learning a surrogate",
                lambda: trainer.learning.rehearse(model, outputs, inputs),
            )
            surrogate = surrogate.to(trainer.args.device)
        if surrogate is None:
            return
        surrogate = surrogate.requires_grad_(False)
        _try(
            f"the loss after the switch (surrogate={type(surrogate).__name__}) of a {type(model).__name__}",
            f"Pass another surrogate=, or surrogate_start=None to train on {base} alone",
            lambda: _gradient(model, trainer.surrogate_loss(model, inputs, surrogate).loss),
        )


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restores the random states, the buffers and the mode of the model afterwards."""
    training = {module: module.training for module in model.modules()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    states = random.getstate(), np.random.get_state()
    try:
        with forked_random_state():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        _restore_buffers(model, buffers)
        for module, mode in training.items():
            module.training = mode


def _restore_buffers(model: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    """Buffers that did not change stay as they are. One that grew, or an expanded one, is replaced."""
    for name, value in model.named_buffers():
        saved = buffers.get(name)
        if saved is None or (saved.shape == value.shape and torch.equal(saved, value)):
            continue
        try:
            with torch.no_grad():
                value.copy_(saved)
        except RuntimeError:
            parent, _, leaf = name.rpartition(".")
            model.get_submodule(parent)._buffers[leaf] = saved


def _gradient(model: nn.Module, loss: torch.Tensor) -> None:
    if not loss.requires_grad:
        raise ValueError("the loss depends on no weight that is trained, so it has no gradient")
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    try:
        torch.autograd.grad(loss, weights, allow_unused=True)
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
        # Reentrant checkpointing supports backward() alone, which would leave gradients behind.
        logger.info("The gradient after the switch is not tried: the model uses reentrant gradient checkpointing")


def _try(what: str, remedy: str, part: Callable[[], Any]) -> Any:
    try:
        return part()
    except Exception as error:
        if should_reduce_batch_size(error):  # auto_find_batch_size tries again
            raise
        raise RehearsalError(
            f"Before the first step, a trial of {what} on one batch failed: {type(error).__name__}: {error}. {remedy}."
        ) from error
