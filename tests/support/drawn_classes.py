"""Classes drawn from the probabilities of logits, and predictions of a model that has these logits."""

import torch

from reloss_hf.learning.predictions import Predictions
from reloss_hf.tasks.classification.task import ClassificationTask

CLASSES, SIZE = 5, 4000


def drawn(several: bool, offset: float = 0.0, seed: int = 0) -> dict[str, torch.Tensor]:
    """Labels drawn from the probabilities of logits, and these logits, the odd classes moved down by an offset."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(SIZE, CLASSES, generator=generator) - 1
    if several:
        labels = (torch.rand(SIZE, CLASSES, generator=generator) < logits.sigmoid()).long()
    else:
        labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return {"logits": logits - offset * (torch.arange(CLASSES) % 2), "labels": labels}


def predictions_of(features: dict[str, torch.Tensor], rows: slice = slice(None)) -> Predictions:
    features = {name: value[rows] for name, value in features.items()}
    decoded, labels = ClassificationTask.decode(features, ()), features["labels"]
    return Predictions(features, decoded.tolist(), labels.tolist(), torch.zeros(len(labels), dtype=torch.long))
