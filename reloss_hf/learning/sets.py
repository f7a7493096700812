"""Draws and scores sets of candidates of the same examples, and computes losses of them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..surrogate import Features, SurrogateLoss, weighted_mean
from .metrics import LoadedGroupMetric, rows_of
from .predictions import Predictions

# The strengths of the perturbation to try in turn, if a weaker one changes no score of the metric.
STRENGTHS = (1.0, 3.0, 10.0)


def draw_candidates(
    predictions: Predictions,
    metric: LoadedGroupMetric,
    perturbed: Callable[..., Features],
    decode: Callable[[Features, Sequence[str]], np.ndarray],
    size: int,
    count: int,
    generator: torch.Generator,
) -> tuple[Features, Tensor]:
    """Candidates of one set of examples, and the score of each.

    Args:
        predictions: the predictions to draw from, of different examples.
        metric: scores the candidates.
        perturbed: see `CandidateLearner`.
        decode: see `CandidateLearner`.
        size: examples of the set; all if there are fewer.
        count: number of candidates.
        generator: draws the examples and the candidates.

    Returns:
        The features of all candidates, one after the other, and their scores, float64 of shape `(count,)`.
    """
    chosen = predictions.select(torch.randperm(len(predictions), generator=generator)[:size])
    copies = perturbed(chosen.features, count, generator, names=chosen.names)
    references = rows_of(chosen.references)
    groups = np.arange(count * len(chosen)).reshape(count, -1)
    scores = metric(decode(copies, chosen.names), np.concatenate([references] * count), groups)
    return copies, torch.from_numpy(scores)


def mean_losses(of_examples: Callable[[Features], Tensor], loss: SurrogateLoss, copies: Features, count: int) -> Tensor:
    """The mean loss of each of `count` candidates over its examples, by the weights of `loss`, shape `(count,)`."""
    return weighted_mean(of_examples(copies).view(count, -1), loss.weights(copies).view(count, -1))
