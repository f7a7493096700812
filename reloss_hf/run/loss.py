"""The loss after the switch of one micro-batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..surrogate import SurrogateLoss, weighted_mean
from ..tasks import Inputs, Task
from ..tasks.models import loss_of


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
    task: Task, model: nn.Module, inputs: Inputs, surrogate: SurrogateLoss, share: float, base: Loss | None
) -> Loss:
    """The surrogate on a micro-batch, and `share` of the loss before the switch.

    Args:
        task: of the model.
        model: that is trained.
        inputs: of the micro-batch.
        surrogate: frozen.
        share: 0 to 1.
        base: the loss before the switch on the same micro-batch; None where `share` is 0.
    """
    outputs = model(**task.without_labels(inputs)) if base is None else base.outputs
    outputs = task.with_logits(model, outputs, inputs)
    features = task.features(model, outputs, inputs, surrogate.reads)
    loss = surrogate.batch_loss(features)
    if base is None:
        base_loss = weighted_mean(surrogate.cross_entropy(features).detach(), surrogate.weights(features))
    else:
        base_loss = base.loss
    logs = {task.base_loss_key: base_loss, "surrogate_loss": loss, "surrogate_in_force": torch.ones_like(loss)}
    return Loss((1 - share) * loss + share * base_loss if share else loss, outputs, logs)


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
