"""Evaluates taggers by entities."""

from collections.abc import Callable, Mapping
from typing import Any

import datasets
import numpy as np
import torch
from transformers import EvalPrediction

from ...classes.losses import IGNORED
from ..models import model_and_wrapped
from .metrics import SeqevalMetric


def tagging_compute_metrics(
    model: torch.nn.Module, features: datasets.Dataset, **options: Any
) -> Callable[[EvalPrediction], dict[str, float]]:
    """A `compute_metrics` for the Trainer: seqeval's scores of all texts, whose windows are joined.

    Args:
        model: the tagger. It has the names of its tags in `config.id2label`.
        features: the result of `prepare_tagging_features`, the Trainer's `eval_dataset`.
        options: settings of the metric, such as `scheme="IOB2"` and `mode="strict"`; see `SeqevalMetric`.

    Returns:
        A function that gives `overall_precision`, `overall_recall`, `overall_f1`, `overall_accuracy`, and for each type
        of entity `PER_precision`, `PER_recall`, `PER_f1` and `PER_number`, say. It raises ValueError if the predictions
        are not those of `features`, in their order.
    """
    metric, names, texts = SeqevalMetric(**options), np.array(tags_of(model), dtype=object), features["text"][:]
    expected = [[label for label in row if label != IGNORED] for row in features.with_format(None)["labels"]]

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        outputs = prediction.predictions
        outputs = np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs)
        predicted = outputs.argmax(-1) if outputs.ndim == 3 else outputs
        labels = np.asarray(prediction.label_ids)
        if [row[row != IGNORED].tolist() for row in labels] != expected:
            raise ValueError(
                f"the {len(labels)} predicted rows are not the {len(texts)} windows of features, in their order: pass "
                "the features that the Trainer evaluates"
            )
        joined: dict[int, tuple[list[str], list[str]]] = {}
        for text, found, gold in zip(texts, predicted, labels, strict=True):
            known = gold != IGNORED
            for tags, ids in zip(joined.setdefault(text, ([], [])), (found[known], gold[known]), strict=True):
                tags.extend(names[ids])
        return _flat(metric([found for found, _ in joined.values()], [gold for _, gold in joined.values()]))

    return compute_metrics


def tags_of(model: torch.nn.Module) -> tuple[str, ...]:
    """The names of a model's tags, those of `config.id2label`, in the order of their numbers."""
    for module in model_and_wrapped(model):
        names = getattr(getattr(module, "config", None), "id2label", None)
        if names:
            return tuple(str(names[number]) for number in sorted(names, key=int))  # JSON has made texts of the numbers
    return ()


def _flat(result: Mapping[str, Any]) -> dict[str, float]:
    flat = {}
    for name, value in result.items():
        parts = {f"{name}_{key}": number for key, number in value.items()} if isinstance(value, dict) else {name: value}
        flat |= {key: float(number) for key, number in parts.items()}
    return flat
