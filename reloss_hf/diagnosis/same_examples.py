"""How losses order candidates of the same examples: predictions of a model, and perturbed copies of them."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..learning.functional import hard_rank, spearman_correlation
from ..learning.metrics import LoadedGroupMetric
from ..learning.predictions import Predictions
from ..learning.sets import draw_candidates, mean_losses, mean_statistics
from ..surrogate import CountedLoss, Features, SurrogateLoss
from ..tasks import CandidateTask
from .results import Diagnosis, LossDiagnosis, bootstrap_draws, interval_of
from .weights import weight_curve

_SETS = 32
_FEWEST_SETS = 8  # of each model
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

    Intervals come from drawing the sets of each model again, with replacement. Candidates that the metric could not
    score are left out.

    Args:
        task: perturbs and decodes.
        predictions: of one model, or of it at several times: their `candidates`.
        metric: higher is better.
        losses: by name, the one before the switch first.
        group_size: examples of a set; all there are, where they are fewer.
        resamples: how many draws.
        seed: of sets and draws.
        progress: whether to show a progress bar.
    """
    generator = torch.Generator().manual_seed(seed)
    models = predictions.candidates[predictions.candidates >= 0].unique()
    sets = max(_FEWEST_SETS, math.ceil(_SETS / len(models)))
    scores, values, of_model = [], {name: [] for name in losses}, models.repeat_interleave(sets)
    with _first_warning_alone():
        for model in tqdm(of_model, desc=f"Scoring candidates by {metric.name}", disable=not progress):
            rows = (predictions.candidates == model).nonzero().flatten()
            copies, found = draw_candidates(
                predictions, rows, metric, task.perturbed, task.decode, group_size, _CANDIDATES, generator
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
    """Each set may warn of the same: that of the first says enough."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if caught:
        warnings.warn(str(caught[0].message), caught[0].category, stacklevel=2)


@torch.no_grad()
def _losses(loss: SurrogateLoss, copies: Features) -> Tensor:
    """Of the candidates, shape `(candidates,)`: of all examples together where a loss depends on all."""
    if isinstance(loss, CountedLoss):
        return (loss.log_scale.exp() * loss.of_statistics(mean_statistics(loss, copies, _CANDIDATES))).double()
    return mean_losses(loss, loss, copies, _CANDIDATES).double()


def _centred(values: Tensor) -> Tensor:
    """Without the mean of each set, flat."""
    return (values - values.nanmean(1, keepdim=True)).flatten()


def _spearman(losses: Tensor, metric: Tensor) -> np.ndarray:
    """Of each set, shape `(sets,)`."""
    kept = metric.isfinite()
    pairs = [(-losses[i, kept[i]], metric[i, kept[i]]) for i in range(len(metric))]
    return np.array([float(spearman_correlation(*pair, rank=hard_rank)) for pair in pairs])


def _means(spearman: np.ndarray, of_model: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The mean over all sets, over those of the last model, and over models of that over theirs; `(draws, 3)`."""
    drawn = spearman[draws]
    of_each = np.stack([drawn[:, of_model == model].mean(1) for model in np.unique(of_model)])
    return np.stack([drawn.mean(1), of_each[-1], of_each.mean(0)], axis=1)
