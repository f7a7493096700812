"""The metrics of taggers that need no download: seqeval's, with the options, defaults and results of `evaluate`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...learning.calling import VectorisedMetric
from ..base import NamedMetric
from .spans import Convention, Counts, count_entities

SCHEMES = ("IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU")


class SeqevalMetric(VectorisedMetric):
    """Precision, recall and F1 of entities, overall and by type, and the accuracy of tags. The package `seqeval`
    computes them from lists of tags.

    Args:
        suffix: whether the prefix of a tag stands behind its type.
        scheme: one of `SCHEMES`. It counts only if `mode` is `"strict"`.
        mode: `"strict"` to count only entities that are tagged by the scheme. None for the rules of conlleval.
        sample_weight: weights of the entity types, as seqeval takes them.
        zero_division: the value of 0 / 0; `"warn"` stands for 0, here without a warning.
        types: types that have scores, 0, even if no entity of theirs is gold or predicted. `evaluate` has no such
            option. A trainer sets it while a loss is learned, because some sets of sentences lack the rare types.

    Raises:
        ImportError: the package is missing.
        ValueError: the scheme or the mode is unknown.
    """

    name = "seqeval"

    def __init__(
        self,
        suffix: bool = False,
        scheme: str | None = None,
        mode: str | None = None,
        sample_weight: Sequence[float] | None = None,
        zero_division: str | int = "warn",
        types: Sequence[str] = (),
    ):
        try:
            import seqeval.metrics  # noqa: F401
        except ImportError as error:
            raise ImportError("metric='seqeval' needs the package seqeval: pip install 'reloss_hf[tags]'") from error
        if scheme not in (None, *SCHEMES):
            raise ValueError(f"scheme={scheme!r} must be one of {list(SCHEMES)}, or None")
        if mode not in (None, "strict"):
            raise ValueError(f"mode={mode!r} must be 'strict' or None")
        self.suffix, self.scheme, self.mode = suffix, scheme, mode
        self.sample_weight, self.zero_division = sample_weight, 0 if zero_division == "warn" else zero_division
        self.types = tuple(types)

    def __call__(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, Any]:
        """`overall_precision`, `overall_recall`, `overall_f1` and `overall_accuracy`, and for each type `precision`,
        `recall`, `f1` and `number`, the number of gold entities."""
        import seqeval.scheme
        from seqeval.metrics import accuracy_score, classification_report

        predictions, references = [list(tags) for tags in predictions], [list(tags) for tags in references]
        if self._is_counted:
            count_entities(predictions, references, np.zeros(len(references), dtype=np.int64), self._convention)
        report = classification_report(
            references,
            predictions,
            suffix=self.suffix,
            output_dict=True,
            scheme=self.scheme and getattr(seqeval.scheme, self.scheme),
            mode=self.mode,
            sample_weight=self.sample_weight,
            zero_division=self.zero_division,
        )
        overall = report.pop("micro avg")
        result = {
            kind: {
                "precision": scores["precision"],
                "recall": scores["recall"],
                "f1": scores["f1-score"],
                "number": scores["support"],
            }
            for kind, scores in report.items()
            if kind not in ("macro avg", "weighted avg")
        }
        absent = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "number": 0}
        result |= {kind: dict(absent) for kind in self.types if kind not in result}
        result |= {f"overall_{name}": overall[key] for name, key in _OVERALL.items()}
        return result | {"overall_accuracy": accuracy_score(references, predictions)}

    def scores(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, np.ndarray] | None:
        """Scores from counts, because seqeval needs a second for a few thousand sentences."""
        plain = self._is_counted and self.zero_division == 0 and self.sample_weight is None
        if not plain or predictions.ndim != 2:
            return None
        groups = np.arange(len(predictions)).repeat(predictions.shape[1])
        return _scores(count_entities(predictions.ravel(), references.ravel(), groups, self._convention), self.types)

    @property
    def _is_counted(self) -> bool:
        return self.mode is None or self.scheme is not None  # else seqeval guesses the scheme

    @property
    def _convention(self) -> Convention:
        return Convention(self.scheme if self.mode == "strict" else None, self.suffix)


_OVERALL = {"precision": "precision", "recall": "recall", "f1": "f1-score"}


def _scores(counts: Counts, types: Sequence[str]) -> dict[str, np.ndarray]:
    """NaN for a type that does not occur in a group, unless it is one of `types`."""
    found, absent = {}, np.zeros(len(counts.tokens))
    for kind in dict.fromkeys((*types, *counts.types)):
        column = counts.types.index(kind) if kind in counts.types else None
        hits, predicted, gold = (
            absent if column is None else table[:, column] for table in (counts.hits, counts.predicted, counts.gold)
        )
        occurs = (predicted + gold > 0) | (kind in types)
        if occurs.any():
            values = _ratios(hits, predicted, gold) | {"number": gold}
            found |= {f"{kind}.{name}": np.where(occurs, value, np.nan) for name, value in values.items()}
    totals = [table.sum(1) for table in (counts.hits, counts.predicted, counts.gold)]
    found |= {f"overall_{name}": values for name, values in _ratios(*totals).items()}
    return found | {"overall_accuracy": _divided(counts.right, counts.tokens)}


def _ratios(hits: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "precision": _divided(hits, predicted),
        "recall": _divided(hits, gold),
        "f1": _divided(2 * hits, predicted + gold),
    }


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


METRICS = {"seqeval": NamedMetric(SeqevalMetric, main_key="overall_f1", replaces_module=True)}
