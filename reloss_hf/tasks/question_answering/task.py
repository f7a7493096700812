"""Extractive question answering: models that give each position a score as the start and as the end of the answer."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

import datasets
import torch
from torch import Tensor

from ...learning.metrics import LoadedGroupMetric
from ...learning.predictions import Predictions
from ..base import Candidate, Inputs, NamedMetric, Task, uniform_draws
from ..models import class_names, is_known_as, is_one_of, named_outputs
from .losses import AnswersCrossEntropy, AnswersSurrogate, ExpectedF1Loss, SpanCrossEntropy
from .preparation import GoldSpansCollator
from .scores import squad, squad_v2
from .spans import best_spans
from .windows import context_and_null, gold_spans, has_gold, span_texts

# A corrupted start or end mostly moves by at most so many tokens, so that overlaps of all degrees occur.
_NEAR = 6
_CLASSES = class_names(
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES", "MODEL_FOR_DOCUMENT_QUESTION_ANSWERING_MAPPING_NAMES"
)


class QuestionAnsweringTask(Task):
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
    metrics: ClassVar = {
        "squad": NamedMetric(lambda: squad, main_key="f1"),
        "squad_v2": NamedMetric(lambda: squad_v2, main_key="f1"),
    }

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
        return _prediction("sample", "a small answer"), _reference("sample", ["a small answer"], [0])

    def try_metric(self, metric: LoadedGroupMetric, dataset: Any, group_size: int) -> None:
        super().try_metric(metric, dataset, group_size)
        prediction, reference = _prediction("sample", ""), _reference("sample", [], [])
        try:
            metric([prediction] * group_size, [reference] * group_size, [range(group_size)])
        except RuntimeError:
            self.scores_null = False
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
            start, end = self._swap_positions(start, end, features, candidate, seeds)
            features = self._features(start, end, inputs)
        predicted = self._decode_spans(start, end, features)
        kept = has_gold(inputs)
        if not self.scores_null:
            kept = kept & ~features["null_mask"].gather(1, features["gold_spans"][:, 0, :1]).squeeze(1)
        features, predicted = {name: value[kept] for name, value in features.items()}, predicted[kept]
        inputs = {name: value[kept] for name, value in inputs.items() if len(value) == len(kept)}
        return self._predictions(features, predicted, inputs, candidate)

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

    def _swap_positions(
        self,
        start: Tensor,
        end: Tensor,
        features: dict[str, Tensor],
        candidate: Candidate,
        seeds: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """The logits after swapping two positions, for a share of the starts and of the ends. An improvement swaps the
        gold and the predicted position, a corruption the gold one and another, mostly a near one."""
        predicted = self._decode_spans(start, end, features)
        context = features["context_mask"]
        first, count = context.int().argmax(1), context.sum(1)
        draws = uniform_draws(seeds, 6).to(context.device).unflatten(1, (2, 3))
        swapped = []
        for column, logits in enumerate((start, end)):
            gold = features["gold_spans"][:, 0, column]
            chosen, far, place = draws[:, column].unbind(1)
            if candidate.improve:
                other = predicted[:, column]
            else:
                near = gold - first + (place * (2 * _NEAR + 1)).long() - _NEAR
                anywhere = (place * count).long()
                other = first + torch.where(far < 0.3, anywhere, near).clamp(min=0).minimum((count - 1).clamp(min=0))
            pair = torch.stack([gold, other], dim=1)
            exchanged = logits.scatter(1, pair, logits.gather(1, pair.flip(1)))
            swapped.append(torch.where((chosen < candidate.corruption)[:, None], exchanged, logits))
        return swapped[0], swapped[1]

    def _predictions(
        self, features: dict[str, Tensor], predicted: Tensor, inputs: Inputs, candidate: Candidate
    ) -> Predictions:
        null = features["null_mask"].int().argmax(1)
        null_probabilities = (features["start_log_probs"] + features["end_log_probs"]).gather(1, null[:, None]).exp()
        ids = [window.tolist() for window in inputs["input_ids"]]
        golds, nulls = features["gold_spans"].tolist(), null.tolist()
        names = [
            _window_id(tokens, spans[0], self.processing_class.pad_token_id)
            for tokens, spans in zip(ids, golds, strict=True)
        ]
        predicted = [[] if span[0] == null else span for span, null in zip(predicted.tolist(), nulls, strict=True)]
        answers = [
            sorted({tuple(span) for span in spans if span[0] != null}) for spans, null in zip(golds, nulls, strict=True)
        ]
        return Predictions(
            {name: value.detach().cpu() for name, value in features.items()},
            [
                _prediction(*row)
                for row in zip(
                    names,
                    self._texts(ids, predicted),
                    null_probabilities.squeeze(1).tolist(),
                    strict=True,
                )
            ],
            [
                _reference(
                    name, span_texts(self.processing_class, [window] * len(spans), spans), [start for start, _ in spans]
                )
                for name, window, spans in zip(names, ids, answers, strict=True)
            ],
            torch.full((len(ids),), candidate.id),
        )

    def _texts(self, ids: list[list[int]], spans: Sequence[Sequence[int]]) -> list[str]:
        return span_texts(self.processing_class, ids, spans)


def _window_id(tokens: list[int], gold: list[int], padding: int | None) -> str:
    first = next((place for place, token in enumerate(tokens) if token != padding), 0)
    content = [token for token in tokens if token != padding], gold[0] - first, gold[1] - first
    return hashlib.sha1(repr(content).encode()).hexdigest()[:16]


def _prediction(name: str, text: str, no_answer_probability: float = 0.0) -> dict[str, Any]:
    return {"id": name, "prediction_text": text, "no_answer_probability": no_answer_probability}


def _reference(name: str, texts: list[str], starts: list[int]) -> dict[str, Any]:
    return {"id": name, "answers": {"text": texts, "answer_start": starts}}
