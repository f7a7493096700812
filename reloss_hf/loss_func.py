"""A surrogate as the `compute_loss_func` of a Trainer from another library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from .surrogate import SurrogateLoss
from .tasks import task_for


def surrogate_loss_func(
    surrogate: SurrogateLoss | str | Path, model: PreTrainedModel
) -> Callable[[Any, Tensor, Tensor | None], Tensor]:
    """A function for `Trainer(compute_loss_func=...)`, also for subclasses such as TRL's `SFTTrainer`.

    The loss is the mean over the whole batch. Every example, and so every micro-batch, weighs as many tokens as it has
    labels. The Trainer divides by nothing else, so this is the loss of `ReLossTrainer`.

    The Trainer takes the labels out of the batch, so an encoder-decoder model needs `decoder_input_ids` in it.
    `DataCollatorForSeq2Seq(tokenizer, model=model)` makes them.

    Example:
        >>> trainer = SFTTrainer(model, compute_loss_func=surrogate_loss_func("out/surrogate", model), ...)

    Args:
        surrogate: a learned surrogate: an object, a folder or a hub id.
        model: the model to train. It tells whether logits and labels are one position apart.

    Raises:
        ValueError: the surrogate reads more than the scores of target tokens, or the model answers questions. The
            Trainer passes neither the inputs nor the positions of answers to the function. The function raises it for
            masks with a label that counts for nothing and is not -100, because the Trainer counts all other labels.
    """
    if not isinstance(surrogate, SurrogateLoss):
        surrogate = SurrogateLoss.from_pretrained(surrogate)
    task = task_for(model)
    tells = task is not None and task.reads_logits_and_labels_alone and surrogate.task == task.name
    if not tells or task.reads_own_output(surrogate):
        raise ValueError(
            f"surrogate={type(surrogate).__name__} reads {list(surrogate.reads)} of a {type(model).__name__}, but "
            "a compute_loss_func is given logits and labels alone: use ReLossTrainer, or pass a surrogate that reads "
            "the scores of target tokens"
        )
    task, surrogate = task(model, None), surrogate.eval().requires_grad_(False)

    def compute_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        if num_items_in_batch is not None and task.ignored != -100 and (labels == task.ignored).any():
            raise ValueError(
                f"labels of {task.ignored} count for nothing, but a plain Trainer counts all labels that are not -100 "
                "and would make the loss too small: replace them by -100 in the data collator, or use ReLossTrainer"
            )
        features = task.features(model, outputs, {"labels": labels}, surrogate.reads)
        loss = surrogate.to(labels.device).batch_loss(features)
        return loss if num_items_in_batch is None else loss * surrogate.weights(features).sum() / num_items_in_batch

    return compute_loss
