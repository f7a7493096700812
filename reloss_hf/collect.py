"""Collects the predictions of a trained model for any data set, to save or diagnose them."""

from typing import Any

import torch

from .learning.predictions import Predictions
from .trainer import ReLossMixin


@torch.no_grad()
def collect_predictions(trainer: ReLossMixin, dataset: Any, candidate: int = 0) -> Predictions:
    """The model's teacher-forced predictions, without dropout: the arg-max of its logits.

    Use it instead of `Trainer.predict`, which keeps no probabilities of targets. With several processes, each returns
    its part.

    Example:
        >>> collect_predictions(trainer, test).save("out/test_predictions")

    Args:
        trainer: a ReLoss trainer. Its model and its data collator are used.
        dataset: a data set with labels.
        candidate: a number for this model, 0 or above. Give each model its own number if you save several into one
            folder.
    """
    training = trainer.model.training
    model = trainer.model.eval()
    parts = []
    for batch in trainer.get_test_dataloader(dataset):
        inputs = trainer._prepare_inputs(batch)
        trainer._require_task(model, inputs)
        trainer.task.require_labels(inputs)
        outputs = trainer.task.with_logits(model, model(**trainer.task.without_labels(inputs)), inputs)
        parts.append(trainer.task.predictions(outputs, inputs, candidate))
    model.train(training)
    return Predictions.concatenate(parts)
