"""The loss after the switch of one micro-batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn

from ..surrogate import CountedLoss, SurrogateLoss, weighted_mean
from ..tasks import Inputs, Task
from ..tasks.models import loss_of
from .rehearsal import untouched


@dataclass
class Loss:
    """Attributes:
    loss: the mean of the micro-batch.
    outputs: of the model; None where they were not asked for.
    logs: numbers to be logged, by name.
    """

    loss: Tensor
    outputs: Any
    logs: dict[str, Tensor] = field(default_factory=dict)


def surrogate_loss(
    task: Task,
    model: nn.Module,
    inputs: Inputs,
    surrogate: SurrogateLoss,
    share: float,
    base: Loss | None,
    whole: Tensor | None = None,
) -> Loss:
    """The surrogate on a micro-batch, and `share` of the loss before the switch.

    Args:
        task: of the model.
        model: that is trained.
        inputs: of the micro-batch.
        surrogate: frozen.
        share: 0 to 1.
        base: the loss before the switch on the same micro-batch; None where `share` is 0.
        whole: see `whole_batch`.
    """
    outputs = model(**task.without_labels(inputs)) if base is None else base.outputs
    outputs = task.with_logits(model, outputs, inputs)
    features = task.features(model, outputs, inputs, surrogate.reads)
    loss = surrogate.batch_loss(features, whole)
    if base is None:
        base_loss = weighted_mean(surrogate.cross_entropy(features).detach(), surrogate.weights(features))
    else:
        base_loss = base.loss
    logs = {task.base_loss_key: base_loss, "surrogate_loss": loss, "surrogate_in_force": torch.ones_like(loss)}
    return Loss((1 - share) * loss + share * base_loss if share else loss, outputs, logs)


def whole_batch(trainer: Any, batches: Sequence[Inputs]) -> Tensor | None:
    """The mean statistics of all micro-batches of all processes, by a pass without gradient; None where the loss of a
    batch is the mean of those of its parts, or there is one part alone."""
    surrogate, task = trainer.surrogate, trainer.task
    if not trainer.surrogate_in_force or not isinstance(surrogate, CountedLoss) or surrogate.linear:
        return None
    if len(batches) == 1 and trainer.args.world_size == 1:
        return None
    model, total, weight = extract_model_from_parallel(trainer.model), 0, 0
    # Random states are put back, so that dropout is the same in the pass that comes with a gradient.
    with torch.no_grad(), untouched(model), trainer.compute_loss_context_manager():
        model.train()
        for inputs in map(trainer._prepare_inputs, batches):
            outputs = task.with_logits(model, model(**task.without_labels(inputs)), inputs)
            features = task.features(model, outputs, inputs, surrogate.reads)
            counts = surrogate.weights(features).sum()
            total, weight = total + counts * surrogate.mean_statistics(features), weight + counts
    return trainer.accelerator.reduce(total) / trainer.accelerator.reduce(weight).clamp(min=1)


def with_loss(outputs: Any, loss: Tensor, names: Sequence[str] | None) -> Any:
    """The outputs with the loss at first place, as a model gives them that was given labels.

    Args:
        outputs: a mapping, or a tuple.
        loss: to be put there.
        names: those that the outputs had with labels, in their order; None where that is not known.
    """
    if not hasattr(outputs, "keys"):
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return (loss, *(outputs if loss_of(outputs) is None else outputs[1:]))
    values = {"loss": loss, **{name: value for name, value in outputs.items() if name != "loss"}}
    return type(outputs)({name: values[name] for name in (names or values) if name in values})
