"""Predictions of a trained model for a data set of one's choice, to be saved and diagnosed."""

from typing import Any

import torch

from .learning.predictions import Predictions
from .tasks import Candidate
from .trainer import ReLossMixin


@torch.no_grad()
def collect_predictions(trainer: ReLossMixin, dataset: Any, candidate: int = 0) -> Predictions:
    """What the model predicts where it is given the targets, without dropout: the arg-max of its logits.

    It takes the place of `Trainer.predict`, which keeps no probabilities of targets. With several processes, each
    returns its part.

    Example:
        >>> collect_predictions(trainer, test).save("out/test_predictions")

    Args:
        trainer: a ReLoss trainer; its model and its data collator are used.
        dataset: with labels.
        candidate: a number for the model as it is, 0 or above, where several are compared in one folder.
    """
    training = trainer.model.training
    model = trainer.model.eval()
    parts = []
    for batch in trainer.get_test_dataloader(dataset):
        inputs = trainer._prepare_inputs(batch)
        trainer._require_task(model, inputs)
        trainer.task.require_labels(inputs)
        outputs = trainer.task.with_logits(model, model(**trainer.task.without_labels(inputs)), inputs)
        seeds = range(trainer.task.batch_size(inputs))
        parts.append(trainer.task.forced_predictions(outputs, inputs, [Candidate(candidate)], seeds))
    model.train(training)
    return Predictions.concatenate(parts)
