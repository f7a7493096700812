"""Measures whether losses follow a metric, by rank correlations with bootstrap intervals."""

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..learning.functional import hard_rank, spearman_correlation
from ..learning.metrics import LoadedGroupMetric
from ..learning.predictions import Predictions
from ..surrogate import SurrogateLoss, weighted_mean
from ..tasks import task_of_features
from .results import Diagnosis, LossDiagnosis, bootstrap_draws, interval_of
from .same_examples import diagnose_same_examples
from .weights import weight_curve

_GROUPS_AT_ONCE = 64
_FEWEST = 3  # the smallest number of groups of a candidate


def diagnose(
    predictions: Predictions,
    metric: LoadedGroupMetric,
    surrogates: dict[str, SurrogateLoss] | None = None,
    group_size: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> Diagnosis:
    """Compare the hand-made losses of the task with any surrogates. The first loss is the one before the switch.

    The losses are compared on disjoint groups of predictions. If the loss for this metric is learned from candidates of
    the same examples, and the predictions hold what these need, they are compared on such candidates. A group holds
    predictions of one candidate, no prediction is in two groups, and corruptions are left out. For the intervals, the
    groups of each candidate, or the sets of candidates of the same examples, are drawn again with replacement. All
    losses and their differences are measured on the same draws.

    Args:
        predictions: predictions, such as those of a run with `save_predictions=True`.
        metric: scores groups; higher is better.
        surrogates: further losses, by name.
        group_size: examples in a group. Pass None for the default of the task.
        resamples: the number of draws.
        seed: seed of the groups and the draws.
        progress: whether to show progress bars.

    Raises:
        ValueError: there are too few predictions, or they lack features that a loss reads.
        RuntimeError: the metric could not score most of the groups.
    """
    task = task_of_features(predictions.features)
    learned = task.surrogate_for(metric)
    same = task.learns_from_candidates(learned) and set(task.decoded_from) <= set(predictions.features)
    group_size = group_size or (task.group_size_for(learned) if same else task.group_size)
    base, *others = task.compared(predictions)
    losses = {base.base_loss_name: base} | {type(loss).__name__: loss for loss in others} | (surrogates or {})
    for name, loss in losses.items():
        missing = sorted(set(loss.reads) - set(predictions.features))
        if missing:
            raise ValueError(f"surrogate {name!r} reads {missing}, but the predictions do not hold these features")
    if same:
        return diagnose_same_examples(task, predictions, metric, losses, group_size, resamples, seed, progress)
    generator = torch.Generator().manual_seed(seed)
    rows, candidates = _disjoint_groups(predictions, group_size, generator)
    scores = metric(predictions.predictions, predictions.references, rows.numpy(), progress)
    scored = _of_scored_candidates(scores, candidates)
    rows, candidates, scores = rows[scored], candidates[scored], scores[scored.numpy()]
    draws = bootstrap_draws(candidates.numpy(), resamples, seed)
    left_out = int((~scored).sum())
    diagnosis = Diagnosis(
        metric.name, metric.signature, group_size, torch.from_numpy(scores), candidates, groups_left_out=left_out
    )
    baseline = None
    for name, loss in tqdm(losses.items(), desc="Measuring losses", disable=not progress):
        values = _group_losses(loss, predictions, rows)
        table = _correlations(-values.numpy(), scores, candidates.numpy(), draws)
        baseline = table if baseline is None else baseline
        diagnosis.losses.append(
            LossDiagnosis(
                name,
                values,
                *(interval_of(column) for column in table.T),
                gain=None if table is baseline else interval_of(table[:, 2] - baseline[:, 2]),
                weights=weight_curve(loss, predictions),
            )
        )
    return diagnosis


def _disjoint_groups(predictions: Predictions, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of the groups, shape `(groups, size)`, and their candidates, shape `(groups,)`."""
    groups, numbers = [], []
    for candidate in predictions.candidates[predictions.candidates >= 0].unique():
        rows = (predictions.candidates == candidate).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        whole = len(rows) // size
        if whole >= _FEWEST:
            groups.append(rows[: whole * size].view(whole, size))
            numbers.append(candidate.repeat(whole))
    if not groups:
        raise ValueError(
            f"no candidate has {_FEWEST * size} predictions, but a candidate needs {_FEWEST} groups of {size}: save "
            "more predictions, or pass a smaller group size"
        )
    return torch.cat(groups), torch.cat(numbers)


def _of_scored_candidates(scores: np.ndarray, candidates: Tensor) -> Tensor:
    """A mask of the groups that have a score and whose candidate has at least `_FEWEST` such groups."""
    scored = torch.from_numpy(np.isfinite(scores))
    for candidate in candidates.unique():
        if scored[candidates == candidate].sum() < _FEWEST:
            scored[candidates == candidate] = False
    if not scored.any():
        raise RuntimeError(f"no candidate has {_FEWEST} groups that the metric could score: pass a larger group size")
    return scored


@torch.no_grad()
def _group_losses(loss: SurrogateLoss, predictions: Predictions, rows: Tensor) -> Tensor:
    means = []
    for part in rows.split(_GROUPS_AT_ONCE):
        features = {name: value[part.flatten()] for name, value in predictions.features.items()}
        means.append(weighted_mean(loss(features).view(part.shape), loss.weights(features).view(part.shape)))
    return torch.cat(means).double()


def _correlations(scores: np.ndarray, metric: np.ndarray, candidates: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Spearman over all groups, within the last candidate, and the mean within a candidate; shape `(draws, 3)`."""
    places = [np.flatnonzero(candidates == candidate) for candidate in np.unique(candidates)]
    within = np.stack([_spearman(scores[draws[:, part]], metric[draws[:, part]]) for part in places])
    return np.stack([_spearman(scores[draws], metric[draws]), within[-1], within.mean(0)], axis=1)


def _spearman(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Spearman's ρ of each row of two arrays."""
    return spearman_correlation(torch.from_numpy(left), torch.from_numpy(right), rank=hard_rank).numpy()
