"""Is a loss aligned with the metric? Rank correlations with bootstrap intervals, and a verdict in plain words."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..learning.functional import hard_rank, spearman_correlation
from ..learning.metrics import LoadedGroupMetric
from ..learning.predictions import Predictions
from ..surrogate import SurrogateLoss, weighted_mean
from ..tasks import task_of_features
from .weights import WeightCurve, weight_curve

_COVERAGE = 0.95
_GROUPS_AT_ONCE = 64
_WEIGHT_ROWS = 512
_FEWEST = 3  # groups of a candidate that can be ordered


@dataclass
class Interval:
    """A correlation, or a difference of two, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass
class LossDiagnosis:
    """How one loss orders groups of predictions.

    Attributes:
        name: of the loss.
        losses: of the groups, shape `(groups,)`.
        overall: Spearman of the negative loss with the metric over all groups.
        last: the same within the last candidate.
        within: the mean over candidates of that within one.
        gain: how much `within` lies above that of the loss before the switch; None for that loss itself.
        weights: None where the loss does not read the probabilities of targets.
    """

    name: str
    losses: Tensor
    overall: Interval
    last: Interval
    within: Interval
    gain: Interval | None
    weights: WeightCurve | None


@dataclass
class Diagnosis:
    """What `diagnose` finds; the first loss is the one before the switch. Groups that the metric could not score are
    left out, and so are those of a candidate with fewer than 3 others."""

    metric_name: str
    metric_signature: str | None
    group_size: int
    metric: Tensor
    candidates: Tensor
    losses: list[LossDiagnosis] = field(default_factory=list)
    groups_left_out: int = 0


def diagnose(
    predictions: Predictions,
    metric: LoadedGroupMetric,
    surrogates: dict[str, SurrogateLoss] | None = None,
    group_size: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> Diagnosis:
    """Compare the hand-made losses of the task, the one before the switch first, and any surrogates, on disjoint groups
    of predictions.

    A group holds predictions of one candidate; no prediction is in two, and corruptions are left out. Intervals come
    from drawing the groups of each candidate again, with replacement; all losses and their differences are measured
    on the same draws.

    Args:
        predictions: such as a run with `save_predictions=True` writes.
        metric: higher is better.
        surrogates: further losses, by a name for each.
        group_size: examples in a group; None for the number of the task.
        resamples: how many draws.
        seed: of groups and draws.
        progress: whether to show progress bars.

    Raises:
        ValueError: there are too few predictions, or features that a loss reads are not there.
        RuntimeError: the metric could not score most of the groups.
    """
    task = task_of_features(predictions.features)
    group_size = group_size or task.group_size
    base, *others = task.hand_made
    losses = {base.base_loss_name: base()} | {loss.__name__: loss() for loss in others} | (surrogates or {})
    for name, loss in losses.items():
        missing = sorted(set(loss.reads) - set(predictions.features))
        if missing:
            raise ValueError(f"surrogate {name!r} reads {missing}, which the predictions do not hold")
    generator = torch.Generator().manual_seed(seed)
    rows, candidates = _disjoint_groups(predictions, group_size, generator)
    scores = metric(predictions.predictions, predictions.references, rows.numpy(), progress)
    scored = _of_scored_candidates(scores, candidates)
    rows, candidates, scores = rows[scored], candidates[scored], scores[scored.numpy()]
    draws = _draws(candidates, resamples, np.random.default_rng(seed))
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
                *(_interval(column) for column in table.T),
                gain=None if table is baseline else _interval(table[:, 2] - baseline[:, 2]),
                weights=weight_curve(loss, _sample(predictions)),
            )
        )
    return diagnosis


def verdict(diagnosis: Diagnosis) -> list[str]:
    """What it means, in plain words: a few sentences, the most important first."""
    metric, (baseline, *others) = diagnosis.metric_name, diagnosis.losses
    base = baseline.name
    if diagnosis.metric.std() == 0:
        return [f"Every group has the same {metric}: nothing can be said, and nothing learned. Use larger groups."]
    if baseline.overall.high < 0:
        return [
            f"{_capitalised(base)} orders the predictions opposite to {metric}. If lower values of {metric} are "
            "better, say so with --lower-is-better; if higher ones are, although it is called like an error rate, with "
            "--no-lower-is-better. Else the predictions do not fit their references."
        ]
    sentences = []
    better = [loss for loss in others if loss.gain.low > 0 and not (loss.weights and loss.weights.flagged)]
    if better:
        best = max(better, key=lambda loss: loss.gain.value)
        sentences.append(
            f"{best.name} orders predictions of one and the same model more as {metric} does than {base}: "
            f"Spearman {best.within.value:.2f} instead of {baseline.within.value:.2f}, a gain of {_signed(best.gain)}. "
            f"It is worth training on, once {base} gains slowly; whether that raises the metric, only training tells."
        )
    else:
        sentences.append(
            f"None of these losses orders predictions of one and the same model better than {base}, beyond chance: "
            f"stay on {base}, or learn a surrogate of {metric} (reloss learn)."
        )
    sentences.append(
        f"{_capitalised(base)} follows {metric} {_degree(baseline.overall.value)} over the whole training "
        f"({baseline.overall.value:.2f}), which every loss does that falls while the metric rises, and "
        f"{_degree(baseline.within.value)} within one candidate ({baseline.within.value:.2f}), which is what counts "
        "for the steps that come next."
    )
    for loss in others:
        if loss.weights is not None and loss.weights.flagged:
            sentences.append(
                f"Warning: {loss.name} rewards a lower probability of the target at "
                f"{100 * loss.weights.rewards_lower:.0f} % of the targets. However well it orders, training on it may "
                "unlearn them."
            )
    if diagnosis.groups_left_out:
        sentences.append(f"{diagnosis.groups_left_out} groups that {metric} could not score are left out.")
    if any(loss.gain.high < 0 for loss in others):
        worse = ", ".join(loss.name for loss in others if loss.gain.high < 0)
        sentences.append(f"Worse than {base} within a candidate: {worse}.")
    return sentences


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
            f"no candidate has {_FEWEST * size} predictions, so that there are no {_FEWEST} groups of {size} to be "
            "ordered: save more predictions, or pass a smaller group size"
        )
    return torch.cat(groups), torch.cat(numbers)


def _of_scored_candidates(scores: np.ndarray, candidates: Tensor) -> Tensor:
    """Which groups have a score, and `_FEWEST` of their candidate do."""
    scored = torch.from_numpy(np.isfinite(scores))
    for candidate in candidates.unique():
        if scored[candidates == candidate].sum() < _FEWEST:
            scored[candidates == candidate] = False
    if not scored.any():
        raise RuntimeError(f"the metric could score {_FEWEST} groups of no candidate: pass a larger group size")
    return scored


def _sample(predictions: Predictions) -> Predictions:
    """Some predictions of all candidates: the early ones have targets of low probability, the late ones of high."""
    own = (predictions.candidates >= 0).nonzero().flatten()
    return predictions.select(own[:: max(1, len(own) // _WEIGHT_ROWS)])


@torch.no_grad()
def _group_losses(loss: SurrogateLoss, predictions: Predictions, rows: Tensor) -> Tensor:
    means = []
    for part in rows.split(_GROUPS_AT_ONCE):
        features = {name: value[part.flatten()] for name, value in predictions.features.items()}
        means.append(weighted_mean(loss(features).view(part.shape), loss.weights(features).view(part.shape)))
    return torch.cat(means).double()


def _draws(candidates: Tensor, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Rows of groups, shape `(1 + resamples, groups)`: those there are, then draws of as many of each candidate."""
    numbers = candidates.numpy()
    draws = np.tile(np.arange(len(numbers)), (1 + resamples, 1))
    for candidate in np.unique(numbers):
        places = np.flatnonzero(numbers == candidate)
        draws[1:, places] = generator.choice(places, (resamples, len(places)))
    return draws


def _correlations(scores: np.ndarray, metric: np.ndarray, candidates: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Spearman over all groups, within the last candidate, and the mean within one; shape `(draws, 3)`."""
    places = [np.flatnonzero(candidates == candidate) for candidate in np.unique(candidates)]
    within = np.stack([_spearman(scores[draws[:, part]], metric[draws[:, part]]) for part in places])
    return np.stack([_spearman(scores[draws], metric[draws]), within[-1], within.mean(0)], axis=1)


def _spearman(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of the rows of two arrays."""
    return spearman_correlation(torch.from_numpy(left), torch.from_numpy(right), rank=hard_rank).numpy()


def _interval(draws: np.ndarray) -> Interval:
    tail = (1 - _COVERAGE) / 2
    low, high = np.quantile(draws[1:], [tail, 1 - tail])
    return Interval(float(draws[0]), float(low), float(high))


def _degree(correlation: float) -> str:
    for least, words in ((0.9, "closely"), (0.7, "fairly well"), (0.4, "loosely")):
        if correlation >= least:
            return words
    return "hardly"


def _capitalised(name: str) -> str:
    return name[:1].upper() + name[1:]


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.2f} (95 % interval {interval.low:+.2f} to {interval.high:+.2f})"
