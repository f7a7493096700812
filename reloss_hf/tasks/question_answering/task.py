"""Extractive question answering: models that give each position a score as the start and as the end of the answer."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

import datasets
import numpy as np
import torch
from torch import Tensor

from ...learning.metrics import LoadedGroupMetric
from ...learning.predictions import Predictions
from ...surrogate import CountedLoss
from ..base import Candidate, Inputs
from ..models import class_names, is_known_as, is_one_of, named_outputs
from ..same_examples import CandidateTask
from .candidates import KEPT, decode, perturbed, with_spans
from .corruption import swapped
from .formats import as_prediction, as_reference, predictions_of
from .losses import AnswersCrossEntropy, AnswersSurrogate, ExpectedF1Loss, SpanCrossEntropy
from .metrics import METRICS
from .preparation import GoldSpansCollator
from .spans import best_spans, gold_is_null
from .windows import context_and_null, gold_spans, has_gold

_CLASSES = class_names(
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES", "MODEL_FOR_DOCUMENT_QUESTION_ANSWERING_MAPPING_NAMES"
)


class QuestionAnsweringTask(CandidateTask):
    """Extractive question answering. Gold answers are `gold_spans`. If a data set has no such column, the gold answer
    is that of `start_positions` and `end_positions`. See `losses` for the features.

    A batch holds no texts. Predictions and references are the decoded tokens of the spans, in the format of the `squad`
    metrics. Each window is a question of its own. Its id comes from its tokens and answer, so it is the same each time
    the window is predicted, and differs between windows.

    If the answer of a window lies elsewhere, or if there is none, the gold answer is the null position. Metrics that
    cannot score a question without an answer, such as `squad`, learn from the other windows alone. If the answer lies
    behind the end of a window, as in truncated data, the window takes no part in a loss. A position below 0 counts as
    0. The losses of the models do the same.
    """

    name = "question_answering"
    does = "answers questions with a span"
    columns = ("gold_spans", "context_span")
    labels = ("start_positions", "end_positions")
    logits = ("start_logits", "end_logits")
    default_surrogate = AnswersSurrogate
    default_loss = AnswersCrossEntropy
    hand_made = (SpanCrossEntropy, ExpectedF1Loss)
    metrics: ClassVar = METRICS
    label_columns = ("answerable",)
    window_of = "example_id"
    decoded_from = KEPT
    learned_from_candidates = CountedLoss
    set_size = 256
    perturbed = staticmethod(perturbed)

    def __init__(self, model: torch.nn.Module, processing_class: Any):
        super().__init__(model, processing_class)
        if self.processing_class is None:
            name = None if processing_class is None else type(processing_class).__name__
            raise ValueError(
                f"processing_class={name} cannot tell where the context of a window is: pass the tokenizer, or a "
                "processor that has one"
            )
        self.scores_null = True

    def of(self, model: torch.nn.Module) -> "QuestionAnsweringTask":
        other = super().of(model)
        other.scores_null = self.scores_null
        return other

    @classmethod
    def handles(cls, model: torch.nn.Module) -> bool:
        return is_known_as(model, _CLASSES)

    @classmethod
    def fits(cls, outputs: Any, inputs: Inputs) -> bool:
        start, end = named_outputs(outputs, cls.logits).values()
        named = hasattr(outputs, "keys") or "start_positions" in inputs
        return named and start is not None and end is not None and start.ndim == end.ndim == 2

    @classmethod
    def knows(cls, model: torch.nn.Module) -> bool:
        return is_one_of(model, _CLASSES)

    def look_at(self, outputs: Any, inputs: Inputs) -> None:
        for name, logits in named_outputs(outputs, self.logits).items():
            shape = tuple(inputs["input_ids"].shape)
            if logits.ndim != 2 or logits.shape[1] < shape[1]:
                raise ValueError(
                    f"the model gives {name} of shape {tuple(logits.shape)} for input_ids of shape {shape}: a loss on "
                    "spans needs one for each position of the input"
                )

    def collator(self, data_collator: Callable) -> Callable:
        return data_collator if isinstance(data_collator, GoldSpansCollator) else GoldSpansCollator(data_collator)

    def require_labels(self, inputs: Inputs) -> None:
        missing = [name for name in (*self.labels, "input_ids") if inputs.get(name) is None]
        if missing:
            raise ValueError(
                f"the batch has no {missing}, only {sorted(inputs)}: make features with reloss_hf.prepare_features"
            )

    def batch_size(self, inputs: Inputs) -> int:
        return len(inputs["start_positions"])

    def weight(self, inputs: Inputs) -> Tensor:
        return has_gold(inputs).sum()

    def features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, reads: tuple[str, ...]
    ) -> dict[str, Tensor]:
        start, end = self._span_logits(self.with_logits(model, outputs, inputs))
        return self._features(start, end, inputs)

    def forced_predictions(
        self, outputs: Any, inputs: Inputs, candidates: Sequence[Candidate], seeds: Sequence[int]
    ) -> Predictions:
        rows = slice(len(seeds))
        start, end = (logits[rows].detach() for logits in self._span_logits(outputs))
        inputs = {name: value[rows] for name, value in inputs.items() if isinstance(value, Tensor)}
        return Predictions.concatenate(
            [self._predictions_by(candidate, start, end, inputs, seeds) for candidate in candidates]
        )

    def predictions(self, outputs: Any, inputs: Inputs, number: int) -> Predictions:
        """With the spans to choose from, and their texts."""
        found = self.forced_predictions(outputs, inputs, [Candidate(number)], range(self.batch_size(inputs)))
        windows = inputs["input_ids"][self._kept(self._features(*self._span_logits(outputs), inputs))]
        return with_spans(found, windows.tolist(), self.processing_class)

    @staticmethod
    def decode(features: dict[str, Tensor], names: Sequence[str]) -> np.ndarray:
        """An answer for each window, in the format of the `squad` metrics."""
        return np.array(decode(features), dtype=object)

    def label_table(self, dataset: Any) -> Tensor | None:
        """Whether each question has an answer, and whether it has none."""
        labels = self.column_of_labels(dataset)
        if labels is None:
            return None
        answerable = torch.tensor(labels, dtype=torch.bool)
        return torch.stack([answerable, ~answerable], dim=1).long()

    def require_slice(self, table: Tensor | None) -> None:
        if not self.scores_null:
            raise ValueError(
                "the metric cannot score questions without an answer, so it does not tell when to abstain: pass "
                "metric='squad_v2', or surrogate_class=None"
            )
        counts = [] if table is None else table.sum(0).tolist()
        if 0 in counts:
            raise ValueError(
                f"of the questions to learn a surrogate from, {counts[0]} have an answer and {counts[1]} have none, so "
                "they cannot tell when to abstain: pass metric='squad' if all questions have an answer, or else "
                "surrogate_dataset= with questions of both kinds"
            )

    def require_generation(self, reads: tuple[str, ...] = ()) -> NoReturn:
        raise ValueError(
            "a question-answering model generates nothing: its logits are its prediction, so pass "
            "surrogate_predictions='forced'"
        )

    def generated_predictions(
        self, model: torch.nn.Module, inputs: Inputs, candidate: Candidate, reads: tuple[str, ...]
    ) -> Predictions:
        self.require_generation()

    def sample_pair(self) -> tuple[dict, dict]:
        return as_prediction("sample", "a small answer"), as_reference("sample", ["a small answer"], [0])

    def try_metric(self, metric: LoadedGroupMetric, dataset: Any, group_size: int) -> None:
        """On questions with and without an answer. If the metric cannot score these, on questions with one."""
        pairs = [self.sample_pair(), (as_prediction("other", ""), as_reference("other", [], []))]
        predictions, references = zip(*pairs * max(1, group_size // 2), strict=True)
        try:
            metric(predictions, references, [range(len(predictions))])
        except RuntimeError:
            self.scores_null = False
            super().try_metric(metric, dataset, group_size)
        answerable = isinstance(dataset, datasets.Dataset) and "answerable" in dataset.column_names
        if answerable and not self.scores_null and not all(dataset["answerable"]):
            raise ValueError(
                f"the metric {metric.name!r} cannot score questions without an answer, and train_dataset has some: "
                "pass metric='squad_v2', or leave them out"
            )

    def _predictions_by(
        self, candidate: Candidate, start: Tensor, end: Tensor, inputs: Inputs, seeds: Sequence[int]
    ) -> Predictions:
        features = self._features(start, end, inputs)
        if candidate.corruption:
            predicted = self._decode_spans(start, end, features)
            start, end = swapped(start, end, predicted, features, candidate, seeds)
            features = self._features(start, end, inputs)
        predicted = self._decode_spans(start, end, features)
        kept = self._kept(features)
        features, predicted = {name: value[kept] for name, value in features.items()}, predicted[kept]
        inputs = {name: value[kept] for name, value in inputs.items() if len(value) == len(kept)}
        return predictions_of(features, predicted, inputs["input_ids"], candidate.id, self.processing_class)

    def _kept(self, features: dict[str, Tensor]) -> Tensor:
        """The windows with a gold answer that the metric can score, shape `(n,)`."""
        kept = features["position_mask"].any(1)
        return kept if self.scores_null else kept & ~gold_is_null(features)

    def _features(self, start_logits: Tensor, end_logits: Tensor, inputs: Inputs) -> dict[str, Tensor]:
        further = start_logits.shape[1] - inputs["input_ids"].shape[1]
        context_mask, null_mask = (torch.nn.functional.pad(mask, (0, further)) for mask in self._masks(inputs))
        return {
            "start_log_probs": start_logits.float().log_softmax(-1),
            "end_log_probs": end_logits.float().log_softmax(-1),
            "position_mask": has_gold(inputs)[:, None].expand_as(context_mask),
            "context_mask": context_mask,
            "null_mask": null_mask,
            "gold_spans": gold_spans(inputs, null_mask),
        }

    def _masks(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        return context_and_null(inputs, self.processing_class)

    def _span_logits(self, outputs: Any) -> tuple[Tensor, Tensor]:
        self._require_logits(outputs)
        return tuple(named_outputs(outputs, self.logits).values())

    def _require_logits(self, outputs: Any) -> None:
        if any(logits is None for logits in named_outputs(outputs, self.logits).values()):
            names = sorted(outputs) if hasattr(outputs, "keys") else type(outputs).__name__
            raise ValueError(
                f"the model's output has no 'start_logits' and 'end_logits', only {names}: models that search for the "
                "answer by beam, such as XLNetForQuestionAnswering, are not supported; use its ...Simple class"
            )

    def _decode_spans(self, start: Tensor, end: Tensor, features: dict[str, Tensor]) -> Tensor:
        """The answers, shape `(n, 2)`: the best span in the context, or the null position if it scores higher."""
        spans, scores = best_spans(start, end, features["context_mask"])
        null = features["null_mask"].int().argmax(1, keepdim=True)
        null_scores = (start.float().gather(1, null) + end.float().gather(1, null)).squeeze(1)
        use_null = (null_scores > scores) if self.scores_null else ~features["context_mask"].any(1)
        return torch.where(use_null[:, None], null.expand(-1, 2), spans)
