"""Measures how losses order candidates of the same examples: perturbed copies of a model's predictions."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..learning.functional import hard_rank, spearman_correlation
from ..learning.metrics import LoadedGroupMetric
from ..learning.predictions import Predictions
from ..learning.sets import STRENGTHS, draw_candidates, mean_losses
from ..surrogate import CountedLoss, Features, SurrogateLoss
from ..tasks import CandidateTask
from .results import Diagnosis, LossDiagnosis, bootstrap_draws, interval_of
from .weights import weight_curve

_SETS = 32
_FEWEST_SETS = 8  # the smallest number of sets for each model
_CANDIDATES = 32


def diagnose_same_examples(
    task: type[CandidateTask],
    predictions: Predictions,
    metric: LoadedGroupMetric,
    losses: dict[str, SurrogateLoss],
    group_size: int,
    resamples: int,
    seed: int,
    progress: bool,
) -> Diagnosis:
    """Spearman of each loss with the metric within sets of candidates of the same examples. See `diagnose`.

    For the intervals, the sets of each model are drawn again with replacement. Candidates that the metric could not
    score are left out.

    Args:
        task: perturbs and decodes predictions.
        predictions: predictions of a model, at one time or at several. Their `candidates` tell the times apart.
        metric: scores candidates; higher is better.
        losses: the losses by name, the one before the switch first.
        group_size: examples of a set; all examples if there are fewer.
        resamples: the number of draws.
        seed: seed of the sets and the draws.
        progress: whether to show a progress bar.
    """
    generator = torch.Generator().manual_seed(seed)
    models = predictions.candidates[predictions.candidates >= 0].unique()
    sets = max(_FEWEST_SETS, math.ceil(_SETS / len(models)))
    scores, values, of_model = [], {name: [] for name in losses}, models.repeat_interleave(sets)
    with _first_warning_alone():
        perturbed = _perturbed(predictions, metric, task, group_size, seed)
        for model in tqdm(of_model, desc=f"Scoring candidates by {metric.name}", disable=not progress):
            copies, found = draw_candidates(
                predictions.of_candidate(model), metric, perturbed, task.decode, group_size, _CANDIDATES, generator
            )
            scored = found.isfinite()
            scores.append(torch.where(scored, found, torch.nan))
            for name, loss in losses.items():
                values[name].append(torch.where(scored, _losses(loss, copies), torch.nan))
    metric_of = torch.stack(scores)
    draws = bootstrap_draws(of_model.numpy(), resamples, seed)
    scored = metric_of.isfinite().flatten()
    diagnosis = Diagnosis(
        metric.name,
        metric.signature,
        min(group_size, int((predictions.candidates == models[-1]).sum())),
        _centred(metric_of)[scored],
        of_model.repeat_interleave(_CANDIDATES)[scored],
        groups_left_out=int((~scored).sum()),
        set_size=_CANDIDATES,
    )
    baseline = None
    for name, loss in losses.items():
        of_sets = torch.stack(values[name])
        table = _means(_spearman(of_sets, metric_of), of_model.numpy(), draws)
        baseline = table if baseline is None else baseline
        diagnosis.losses.append(
            LossDiagnosis(
                name,
                _centred(of_sets)[scored],
                *(interval_of(column) for column in table.T),
                gain=None if table is baseline else interval_of(table[:, 2] - baseline[:, 2]),
                weights=weight_curve(loss, predictions),
                costs=loss.error_costs(),
            )
        )
    return diagnosis


@contextmanager
def _first_warning_alone() -> Iterator[None]:
    """Shows the warning of the first set alone, because the other sets may repeat it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if caught:
        warnings.warn(str(caught[0].message), caught[0].category, stacklevel=2)


@torch.no_grad()
def _losses(loss: SurrogateLoss, copies: Features) -> Tensor:
    """The losses of the candidates, shape `(candidates,)`. A loss that depends on all examples sees them together."""
    if isinstance(loss, CountedLoss):
        return (loss.log_scale.exp() * loss.of_statistics(loss.mean_statistics_of_copies(copies, _CANDIDATES))).double()
    return mean_losses(loss, loss, copies, _CANDIDATES).double()


def _perturbed(
    predictions: Predictions, metric: LoadedGroupMetric, task: type[CandidateTask], group_size: int, seed: int
) -> Callable:
    """The perturbation of the task, as weak as makes the metric of the last model vary."""
    last = predictions.of_candidate(predictions.candidates.max())
    for strength in STRENGTHS:
        perturbed = partial(task.perturbed, strength=strength)
        generator = torch.Generator().manual_seed(seed)
        _, found = draw_candidates(last, metric, perturbed, task.decode, group_size, _CANDIDATES, generator)
        if found[found.isfinite()].std() > 0:
            break
    return perturbed


def _centred(values: Tensor) -> Tensor:
    """The values minus the mean of their set, flattened."""
    return (values - values.nanmean(1, keepdim=True)).flatten()


def _spearman(losses: Tensor, metric: Tensor) -> np.ndarray:
    """Spearman's ρ of the negative loss with the metric in each set, shape `(sets,)`."""
    kept = metric.isfinite()
    pairs = [(-losses[i, kept[i]], metric[i, kept[i]]) for i in range(len(metric))]
    return np.array([float(spearman_correlation(*pair, rank=hard_rank)) for pair in pairs])


def _means(spearman: np.ndarray, of_model: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The means over all sets, over those of the last model, and over models of the mean of theirs; `(draws, 3)`."""
    drawn = spearman[draws]
    of_each = np.stack([drawn[:, of_model == model].mean(1) for model in np.unique(of_model)])
    return np.stack([drawn.mean(1), of_each[-1], of_each.mean(0)], axis=1)
