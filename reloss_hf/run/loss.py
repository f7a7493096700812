"""The loss of one micro-batch after the switch."""

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
    """The loss of a micro-batch.

    Attributes:
        loss: the mean over the micro-batch.
        outputs: the outputs of the model; None if they were not asked for.
        logs: numbers to log, by name.
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
    """The surrogate on a micro-batch, mixed with a share of the loss before the switch.

    Args:
        task: the task of the model.
        model: the model to train.
        inputs: the micro-batch.
        surrogate: the surrogate, frozen.
        share: the share of the loss before the switch, 0 to 1.
        base: the loss before the switch on the same micro-batch; None if `share` is 0.
        whole: the result of `whole_batch`.
    """
    outputs = model(**task.without_labels(inputs)) if base is None else base.outputs
    outputs = task.with_logits(model, outputs, inputs)
    features = task.features(model, outputs, inputs, surrogate.reads)
    loss = surrogate.batch_loss(features, whole)
    if base is None:
        with torch.no_grad():
            base_loss = weighted_mean(surrogate.cross_entropy(features), surrogate.weights(features))
    else:
        base_loss = base.loss
    lasting = task.lasting_loss(outputs, features)
    if lasting is not None:
        loss = loss + lasting
        base_loss = base_loss + lasting.detach() if base is None else base_loss
    logs = {task.base_loss_key: base_loss, "surrogate_loss": loss, "surrogate_in_force": torch.ones_like(loss)}
    return Loss((1 - share) * loss + share * base_loss if share else loss, outputs, logs)


def whole_batch(trainer: Any, batches: Sequence[Inputs]) -> Tensor | None:
    """The mean statistics of all micro-batches of all processes, from a pass without gradient. None if the loss of a
    batch is the mean of the losses of its parts, or if the batch has only one part."""
    surrogate, task = trainer.surrogate, trainer.task
    if not trainer.surrogate_in_force or not isinstance(surrogate, CountedLoss) or surrogate.linear:
        return None
    if len(batches) == 1 and trainer.args.world_size == 1:
        return None
    model, total, weight = extract_model_from_parallel(trainer.model), 0, 0
    # Random states are restored, so that the pass with a gradient has the same dropout.
    with torch.no_grad(), untouched(model), trainer.compute_loss_context_manager():
        model.train()
        for inputs in map(trainer._prepare_inputs, batches):
            outputs = task.with_logits(model, model(**task.without_labels(inputs)), inputs)
            features = task.features(model, outputs, inputs, surrogate.reads)
            counts = surrogate.weights(features).sum()
            total, weight = total + counts * surrogate.mean_statistics(features), weight + counts
    return trainer.accelerator.reduce(total) / trainer.accelerator.reduce(weight).clamp(min=1)


def with_loss(outputs: Any, loss: Tensor, names: Sequence[str] | None) -> Any:
    """The outputs with the loss in first place, as a model returns them if it is given labels.

    Args:
        outputs: a mapping, or a tuple.
        loss: the loss to insert.
        names: the names of the outputs with labels, in their order; None if they are unknown.
    """
    if not hasattr(outputs, "keys"):
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return (loss, *(outputs if loss_of(outputs) is None else outputs[1:]))
    values = {"loss": loss, **{name: value for name, value in outputs.items() if name != "loss"}}
    return type(outputs)({name: values[name] for name in (names or values) if name in values})
