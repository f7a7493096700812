"""Scores groups of examples, because many metrics are no mean over examples."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from sacrebleu.metrics.base import Metric as SacreMetric
from tqdm.auto import tqdm

from .calling import LoadedMetric, VectorisedMetric, call_of, kept_numpy_state, name_of
from .results import is_error_rate, number_of

# If a metric cannot score more than this share of the groups, the fault lies with the metric or its arguments.
_MOST = 0.5
_SHOWN = 400


class LoadedGroupMetric:
    """Scores groups of examples with a loaded metric; higher is better. `reloss_hf.GroupMetric` also takes metrics by
    name.

    Args:
        metric: an `evaluate` module, or several combined; a sacrebleu metric; or a function
            `(predictions, references) -> float`.
        key: which number of the metric's result to use; see `GroupMetric`.
        lower_is_better: whether to negate the score. None negates metrics with the name of an error rate.
        options: keywords for the metric.
        main_key: the main number of the metric. It is used if `key` is None and the result has neither "score" nor the
            metric's name.

    Attributes:
        options: the given options.
        result_key: the key of the number that is used, known after the first score; None if the result is one number.
    """

    def __init__(
        self,
        metric: LoadedMetric,
        key: str | None = None,
        lower_is_better: bool | None = None,
        options: Mapping[str, Any] | None = None,
        main_key: str | None = None,
    ):
        self.metric, self.key, self.options, self.main_key = metric, key, dict(options or {}), main_key
        self.result_key = key
        self._lower_is_better = lower_is_better
        if not isinstance(metric, SacreMetric):
            self._call = call_of(metric, self.options)
        elif self.options:
            name = type(metric).__name__
            raise ValueError(f"metric_options={self.options} come too late for a {name} object: pass {name}(...)")

    @property
    def name(self) -> str:
        """The metric's name, for logs and model cards."""
        name = name_of(self.metric)
        return f"{name}:{self.key}" if self.key else name.lower()

    @property
    def signature(self) -> str | None:
        """sacrebleu's signature, known after the first score; None for other metrics."""
        return str(self.metric.get_signature()) if isinstance(self.metric, SacreMetric) else None

    @property
    def lower_is_better(self) -> bool:
        """Whether lower values of the metric are better, so that scores are negated. It is the given value. Without
        one, the name of the metric decides, or the name of the number in its result."""
        if self._lower_is_better is not None:
            return self._lower_is_better
        return is_error_rate(name_of(self.metric)) or (self.result_key is not None and is_error_rate(self.result_key))

    def __call__(
        self, predictions: Sequence, references: Sequence, groups: np.ndarray, progress: bool = False
    ) -> np.ndarray:
        """The metric of every group.

        Args:
            predictions: one prediction for each example, in the metric's own format.
            references: one reference for each example, in the metric's own format. It is a string if the metric accepts
                strings and lists.
            groups: integers of shape `(groups, size)`, rows of `predictions`.
            progress: whether to show a progress bar.

        Returns:
            float64, shape `(groups,)`; higher is better. A group has NaN if the metric raised, or gave NaN or infinity.
            One warning counts such groups and shows the first.

        Raises:
            RuntimeError: the metric failed on more than half of the groups. The message shows the first, with its
                inputs.
        """
        at_once = self._scores_at_once(predictions, references, groups)
        if at_once is not None:
            return -at_once if self.lower_is_better else at_once
        is_sacre = isinstance(self.metric, SacreMetric)
        score_group = (self._sacrebleu_scorer if is_sacre else self._scorer)(predictions, references)
        scores, failures = np.full(len(groups), np.nan), []
        most = _MOST * len(groups)
        with kept_numpy_state():
            for number, rows in enumerate(tqdm(groups, desc=f"Scoring by {self.name}", disable=not progress)):
                try:
                    scores[number] = score_group(rows)
                except Exception as error:
                    failures.append((number, error))
                if len(failures) > most:
                    break
        if failures:
            number, error = failures[0]
            inputs = (_shown([values[row] for row in groups[number]]) for values in (predictions, references))
            what = "raised {}: {} — on group {}: predictions={}, references={}".format(
                type(error).__name__, error, number, *inputs
            )
            if len(failures) > most:
                also = f"; more than half of {len(groups)} groups cannot be scored" if len(groups) > 1 else ""
                raise RuntimeError(f"metric {self.name!r} {what}{also}") from error
            warnings.warn(
                f"metric {self.name!r} could not score {len(failures)} of {len(groups)} groups, which are left out; "
                f"it {what}",
                stacklevel=2,
            )
        return -scores if self.lower_is_better else scores

    @property
    def _main_keys(self) -> list[str]:
        return [key for key in ("score", name_of(self.metric), self.main_key) if key]

    def _scores_at_once(self, predictions: Sequence, references: Sequence, groups: np.ndarray) -> np.ndarray | None:
        if not isinstance(self.metric, VectorisedMetric) or len(groups) == 1:
            return None
        scores = self.metric.scores_of_groups(rows_of(predictions), rows_of(references), np.asarray(groups))
        if isinstance(scores, dict):
            _, self.result_key = number_of(dict.fromkeys(scores, 0.0), self.key, self._main_keys)
            scores = scores[self.result_key]
        return scores if scores is not None and np.isfinite(scores).all() else None

    def _sacrebleu_scorer(self, predictions: Sequence[str], references: Sequence) -> Callable:
        rows = ((reference,) if isinstance(reference, str) else tuple(reference) for reference in references)
        pairs = list(zip(predictions, rows, strict=True))
        places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}  # candidates are often the same
        hypotheses, rows = zip(*places, strict=True)
        streams = list(zip_longest(*rows))
        statistics = np.array(self.metric._extract_corpus_statistics(list(hypotheses), streams), dtype=object)
        statistics = statistics[[places[pair] for pair in pairs]]
        return lambda group: number_of(self.metric._aggregate_and_compute(statistics[group].tolist()).score)[0]

    def _scorer(self, predictions: Sequence, references: Sequence) -> Callable:
        def score(group) -> float:
            result = self._call([predictions[row] for row in group], [references[row] for row in group])
            number, self.result_key = number_of(result, self.key, self._main_keys)
            return number

        return score


def rows_of(values: Sequence) -> np.ndarray:
    """The values as an array with a row for each. Lists of texts, such as tags, stay lists."""
    if isinstance(values, np.ndarray):
        return values
    if any(isinstance(value, list) and value and isinstance(value[0], str) for value in values):
        return np.fromiter(values, dtype=object, count=len(values))
    return np.asarray(values)


def _shown(values: list) -> str:
    text = repr(values)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(values)} in all)"
