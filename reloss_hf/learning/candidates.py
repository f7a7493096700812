"""Learns from candidates of the same examples: perturbed predictions of a model, ranked by the metric."""

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..report import HeldOutGroups, LearningReport
from ..surrogate import CountedLoss, Features
from .functional import hard_rank, soft_rank, spearman_correlation
from .metrics import LoadedGroupMetric, rows_of
from .predictions import Predictions
from .results import json_value
from .scale import scale_to_cross_entropy
from .sets import STRENGTHS, draw_candidates, mean_losses

logger = logging.getLogger(__name__)

_STEPS_BETWEEN_CHECKS = 25
# The share of the sets to learn from that decide when to stop.
_STOPPING = 0.2
_REPORTED_SETS = 8


class CandidateLearner:
    """Learns which prediction of the *same* examples the metric prefers.

    A set is some examples with the model's predictions. Its candidates are perturbed copies of these predictions. The
    metric scores each candidate once. The surrogate is trained to rank the candidates of each set as the metric does.

    Args:
        metric: scores groups.
        new_surrogate: makes the surrogate to start from, `(features) -> surrogate`.
        perturbed: makes perturbed copies, `(features, count, generator, names=names) -> features`; see
            `CandidateTask.perturbed`.
        decode: makes the predictions for the metric, `(features, names) -> array`; see `CandidateTask.decode`.
        group_size: examples of a set.
        sets: how many sets to score and learn from.
        candidates: candidates of each set.
        steps: steps of Adam.
        learning_rate: learning rate of Adam.
        held_out: the share of the examples that is kept from learning, unless others are given to `learn`.
        seed: seed of the learner's own generator. The global generator is not touched.

    Attributes:
        surrogate: the surrogate; frozen once it is learned.
        held_out_groups: the candidates behind the last report.
    """

    def __init__(
        self,
        metric: LoadedGroupMetric,
        new_surrogate: Callable[[Features], CountedLoss],
        perturbed: Callable[..., Features],
        decode: Callable[[Features, Sequence[str]], np.ndarray],
        *,
        group_size: int = 256,
        sets: int = 12,
        candidates: int = 24,
        steps: int = 150,
        learning_rate: float = 0.05,
        held_out: float = 0.3,
        seed: int = 0,
    ):
        if group_size < 1:
            raise ValueError(f"group_size={group_size} must be at least 1")
        if not 0 < held_out < 1:
            raise ValueError(f"held_out={held_out} must lie between 0 and 1")
        self.metric, self.new_surrogate, self.perturbed, self.decode = metric, new_surrogate, perturbed, decode
        self.group_size, self.sets, self.candidates = group_size, sets, candidates
        self.steps, self.learning_rate, self.held_out, self.seed = steps, learning_rate, held_out, seed
        self.surrogate: CountedLoss | None = None
        self.held_out_groups: HeldOutGroups | None = None

    def learn(
        self, predictions: Predictions, others: Predictions | None = None, earlier: CountedLoss | None = None
    ) -> LearningReport:
        """Learn from the current predictions of the model, the last candidate in `predictions`.

        Afterwards `self.surrogate` is frozen, and its gradient is scaled to that of cross-entropy.

        Args:
            predictions: the predictions to learn from.
            others: predictions of other examples, to report on. Pass None to keep a share of `predictions` for it.
            earlier: the surrogate that the model is trained on so far, if there is one.

        Raises:
            ValueError: there are too few examples.
            RuntimeError: the metric could not score most of the candidates.
        """
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(self.seed)
        predictions = predictions.of_candidate(predictions.candidates.max())
        if len(predictions) + len(others or ()) < self.smallest_data_set:
            raise ValueError(
                f"there are predictions of {len(predictions)} examples, but learning needs at least "
                f"{self.smallest_data_set}"
            )
        if others is None:
            predictions, others = map(predictions.select, self.split(torch.arange(len(predictions))))
        surrogate = self.surrogate = self.new_surrogate(predictions.features)
        surrogate.observe(predictions.features)
        learned, strength = self._varied_sets(predictions, generator)
        final = self._sets(others, _REPORTED_SETS, generator, strength, with_base=True)
        varies = bool((learned.scores.std(1) > 0).any())
        steps = self._optimise(learned) if varies else 0
        surrogate.eval().requires_grad_(False)
        if varies:
            surrogate.settle(predictions.features, earlier and copy.deepcopy(earlier).cpu())
            scale_to_cross_entropy(surrogate, predictions.features)
        report = self._report(final)
        change = self._foreseen(Predictions.concatenate([predictions, others])) if varies else None
        if change is not None:
            report.held_out_metric, report.foreseen_metric = change.before, change.after
            report.foreseen_gain, report.noise_of_foreseen = change.gain, change.noise
        report.groups_left_out = learned.left_out + final.left_out
        report.examples, report.steps, report.seconds = len(predictions), steps, round(time.perf_counter() - start, 3)
        surrogate.info, surrogate.held_out = report.as_dict() | self._settings(), self.held_out_groups
        return report

    def split(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of examples to learn from, and of those to report on. The same seed gives the same split.

        Args:
            texts: the number of the text of each example, from 0, shape `(n,)`. All windows of a text are in one part.
        """
        count = len(texts.unique())
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed))
        places = order.argsort()[texts]
        held_out = int((places < round(self.held_out * count)).sum())
        rows = places.argsort(stable=True)
        return rows[held_out:], rows[:held_out]

    def compare(self, before: Predictions, after: Predictions, resamples: int = 50) -> "Change":
        """How the metric of predictions of the same examples changes."""
        size = len(before)
        draws = np.random.default_rng(self.seed).integers(0, size, (resamples, size))
        rows = np.concatenate([np.arange(size)[None], draws])
        first, second = (
            self.metric(rows_of(one.predictions), rows_of(one.references), rows) for one in (before, after)
        )
        sign, gains = -1 if self.metric.lower_is_better else 1, second - first
        return Change(float(sign * first[0]), float(sign * second[0]), float(gains[0]), float(2 * np.nanstd(gains[1:])))

    @property
    def surrogate_name(self) -> str:
        """The class of the surrogate to learn."""
        return self.new_surrogate.args[0].__name__

    @property
    def smallest_data_set(self) -> int:
        """How many examples learning needs."""
        return 20

    def rehearse(self, predictions: Predictions) -> CountedLoss:
        """Score three candidates of a few predictions, and compute the objective and its gradient once.

        Returns:
            A surrogate that has learned nothing.
        """
        learned, surrogate = self.surrogate, self.new_surrogate(predictions.features)
        self.surrogate = surrogate
        surrogate.observe(predictions.features)
        try:
            generator = torch.Generator().manual_seed(self.seed)
            sets = self._sets(predictions, 1, generator, STRENGTHS[-1], candidates=3)
        except RuntimeError:
            # A few examples, or a model that has learned nothing, may give what the metric cannot score.
            logger.warning("The metric %s cannot score a trial on %d examples", self.metric.name, len(predictions))
        else:
            self._objective(sets.statistics, sets.scores).backward()
        finally:
            self.surrogate = learned
        return surrogate

    def _sets(
        self,
        predictions: Predictions,
        count: int,
        generator: torch.Generator,
        strength: float = 1.0,
        candidates: int = 0,
        with_base: bool = False,
    ) -> "_Sets":
        candidates, perturbed = candidates or self.candidates, partial(self.perturbed, strength=strength)
        parts, left_out = [], 0
        for _ in range(count):
            copies, scores = draw_candidates(
                predictions, self.metric, perturbed, self.decode, self.group_size, candidates, generator
            )
            with torch.no_grad():
                means = self.surrogate.mean_statistics_of_copies(copies, candidates)
                base = torch.empty(candidates)
                if with_base:
                    base = mean_losses(self.surrogate.cross_entropy, self.surrogate, copies, candidates)
            places = _scored(scores)
            left_out += int(scores.isnan().sum())
            parts.append((means[places], scores[places].float(), base[places]))
        return _Sets(*(torch.stack(part) for part in zip(*parts, strict=True)), left_out)

    def _varied_sets(self, predictions: Predictions, generator: torch.Generator) -> tuple["_Sets", float]:
        """Sets to learn from, and the strength of their perturbation, the weakest that makes the metric vary. A model
        that always predicts the same needs a strong one."""
        for strength in STRENGTHS:
            sets = self._sets(predictions, self.sets, generator, strength)
            if (sets.scores.std(1) > 0).float().mean() > 0.5:
                break
        return sets, strength

    def _optimise(self, sets: "_Sets") -> int:
        """Minimise the objective and keep the weights of the best check. Returns the step of that check."""
        stopping = max(1, round(_STOPPING * len(sets.scores)))
        optimizer = torch.optim.Adam(self.surrogate.parameters(), lr=self.learning_rate)
        best, best_step, best_weights = -math.inf, 0, copy.deepcopy(self.surrogate.state_dict())
        for step in range(self.steps + 1):
            if step % _STEPS_BETWEEN_CHECKS == 0:
                with torch.no_grad():
                    losses = self.surrogate.of_statistics(sets.statistics[:stopping])
                current = float(spearman_correlation(-losses, sets.scores[:stopping], rank=hard_rank).nanmean())
                if current > best:
                    best, best_step, best_weights = current, step, copy.deepcopy(self.surrogate.state_dict())
            optimizer.zero_grad()
            self._objective(sets.statistics[stopping:], sets.scores[stopping:]).backward()
            optimizer.step()
        self.surrogate.load_state_dict(best_weights)
        return best_step

    def _foreseen(self, before: Predictions) -> "Change | None":
        """How the metric changes if the model is trained to where the loss is least; None if that is not known."""
        features = self.surrogate.foreseen(before.features)
        if features is None:
            return None
        decoded = self.decode(features, before.names).tolist()
        change = self.compare(before, replace(before, features=features, predictions=decoded))
        return change if change.is_known else None

    def _objective(self, statistics: Tensor, scores: Tensor) -> Tensor:
        losses = self.surrogate.of_statistics(statistics)
        return self.surrogate.regulariser() - spearman_correlation(-losses, scores, rank=soft_rank).mean()

    def _report(self, sets: "_Sets") -> LearningReport:
        losses = self.surrogate.log_scale.exp() * self.surrogate.of_statistics(sets.statistics)
        count = len(sets.scores)
        self.held_out_groups = HeldOutGroups(
            metric=sets.scores.flatten(),
            surrogate=losses.flatten(),
            cross_entropy=sets.base.flatten(),
            candidates=torch.arange(count).repeat_interleave(sets.scores.shape[1]),
        )
        own, base = (spearman_correlation(-values, sets.scores, rank=hard_rank) for values in (losses, sets.base))
        gain = own - base
        return LearningReport(
            metric=self.metric.name,
            surrogate=type(self.surrogate).__name__,
            spearman=float(own.mean()),
            spearman_cross_entropy=float(base.mean()),
            spearman_within=float(own.mean()),
            spearman_cross_entropy_within=float(base.mean()),
            chance=min(2 / math.sqrt(count * (sets.scores.shape[1] - 1)), 0.9),
            metric_spread=float(sets.scores.std(1, correction=0).mean()),
            held_out_groups=sets.scores.numel(),
            same_examples=True,
            noise_of_gain=float(2 * gain.std() / math.sqrt(count)),
            base_loss_name=self.surrogate.base_loss_name,
        )

    def _settings(self) -> dict[str, Any]:
        names = ("sets", "candidates", "steps", "learning_rate", "held_out")
        return {
            "metric_options": {name: json_value(value) for name, value in self.metric.options.items()},
            "lower_is_better": self.metric.lower_is_better,
            "group_size": self.group_size,
            "seed": self.seed,
            "hyperparameters": {name: getattr(self, name) for name in names},
        }


@dataclass
class Change:
    """The change of a metric between predictions of the same examples.

    Attributes:
        before, after: the metric.
        gain: how much better it is after. It is `after - before`, or the negative of it if lower values are better.
        noise: two standard errors of the gain, by bootstrap over examples.
    """

    before: float
    after: float
    gain: float
    noise: float

    @property
    def is_known(self) -> bool:
        """Whether the metric could be scored."""
        return math.isfinite(self.gain) and math.isfinite(self.noise)


@dataclass
class _Sets:
    statistics: Tensor  # the mean statistics of each candidate, `(sets, candidates, *shape of one)`
    scores: Tensor  # the scores of the candidates, `(sets, candidates)`; higher is better
    base: Tensor  # cross-entropy of the candidates, `(sets, candidates)`; of no meaning if it was not asked for
    left_out: int  # how many candidates the metric could not score; scored ones of their set take their place


def _scored(scores: Tensor) -> Tensor:
    """The places of the candidates, with each unscored candidate replaced by a scored one."""
    places, scored = torch.arange(len(scores)), (~scores.isnan()).nonzero().flatten()
    missing = scores.isnan()
    places[missing] = scored[torch.arange(int(missing.sum())) % len(scored)]
    return places
