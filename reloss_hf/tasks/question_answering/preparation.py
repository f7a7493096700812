"""Features for extractive question answering, from data in SQuAD's schema.

>>> train = prepare_features(squad["train"], tokenizer)
>>> validation = prepare_features(squad["validation"], tokenizer)
>>> trainer = ReLossTrainer(
...     model, args, train_dataset=train, eval_dataset=validation, processing_class=tokenizer, metric="squad",
...     compute_metrics=squad_compute_metrics(squad["validation"], validation),
... )
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_COLUMNS = ("id", "question", "context", "answers")
_FEATURES = (
    "start_positions",
    "end_positions",
    "gold_spans",
    "context_span",
    "null_position",
    "example_id",
    "answerable",
    "offset_mapping",
)


def prepare_features(
    examples: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int = 384, doc_stride: int = 128
) -> datasets.Dataset:
    """Tokenise questions and contexts. A context that is too long becomes several overlapping windows.

    The context follows the question, or precedes it if the tokenizer pads to the left. Only then are windows padded
    here, because a collator would move their positions. Cross-entropy is trained on the first of several gold answers.
    The metric, and the losses that say so, use all of them.

    Examples are dropped with a warning if their question leaves no room for the context, or if the context does not
    have their answers at the given places.

    Args:
        examples: columns `id`, `question`, `context`, `answers` as in the hub's `squad` and `squad_v2`.
        tokenizer: a fast tokenizer, with right or left padding.
        max_length: tokens of a window.
        doc_stride: tokens that a window shares with the one before.

    Returns:
        One row for each window: the model's inputs; `start_positions` and `end_positions`, both at the null position
        (the `[CLS]` token) if the answer is not in the window; `gold_spans`, the starts and ends of all gold answers in
        the window, filled up with the null position to the largest number of answers of a question; `context_span`, the
        first and the last token of the context; `null_position`; `example_id`; `answerable`, whether the question has
        an answer; `offset_mapping`, the characters of each token, None outside the context.

    Raises:
        ValueError: `examples` is no `datasets.Dataset`, a column is missing or has another type, an id occurs twice,
            the tokenizer is slow, or no example is left.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer={type(tokenizer).__name__} is slow and has no offsets: pass a fast tokenizer")
    if not isinstance(examples, datasets.Dataset):
        raise ValueError(
            f"examples is a {type(examples).__name__}: pass one datasets.Dataset, such as Dataset.from_list(rows)"
        )
    missing = [name for name in _COLUMNS if name not in examples.column_names]
    if missing:
        raise ValueError(f"examples has no columns {missing}, only {examples.column_names}: rename or add them")
    for name in _COLUMNS:
        _require_values(name, examples[name])
    repeated = [name for name, count in Counter(examples["id"]).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{len(repeated)} ids occur more than once in examples, such as {repeated[:3]}: give each its own id"
        )
    examples = _without_long_questions(examples, tokenizer, max_length, doc_stride)
    examples = _without_misplaced_answers(examples)
    most = max((len(answers["text"]) for answers in examples["answers"]), default=0)
    return examples.map(
        lambda batch: _windows(batch, tokenizer, max_length, doc_stride, max(most, 1)),
        batched=True,
        remove_columns=examples.column_names,
        desc="Making windows",
    )


def null_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token whose position stands for "no answer": `[CLS]`, or the start of the sequence. -1 if the tokenizer has
    neither. The first token of the question then stands for it, or the last one if the question comes last."""
    ids = (tokenizer.cls_token_id, tokenizer.bos_token_id)
    return next((token for token in ids if token is not None), -1)


class GoldSpansCollator:
    """A data collator for windows of joined data sets, whose `gold_spans` have different lengths. It fills them up with
    -1, then calls the given collator."""

    def __init__(self, data_collator: Callable):
        self.data_collator = data_collator

    def __call__(self, rows: list[Any]) -> Any:
        if all(isinstance(row, Mapping) and "gold_spans" in row for row in rows):
            most = max(len(row["gold_spans"]) for row in rows)
            if any(len(row["gold_spans"]) < most for row in rows):
                rows = [{**row, "gold_spans": _filled_up(row["gold_spans"], most)} for row in rows]
        return self.data_collator(rows)


def _filled_up(spans: Any, count: int) -> list[list[int]]:
    spans = torch.as_tensor(spans).tolist()
    return spans + [[-1, -1]] * (count - len(spans))


def _require_values(name: str, values: Sequence[Any]) -> None:
    for place, value in enumerate(values):
        if name == "answers":
            lists = value.values() if isinstance(value, Mapping) and {"text", "answer_start"} <= set(value) else [None]
            fits = all(isinstance(found, (list, tuple, np.ndarray)) for found in lists)
            wanted = "a dict of the lists 'text' and 'answer_start'"
        elif name == "id":
            fits, wanted = value is not None, "a name"
        else:
            fits, wanted = isinstance(value, str), "text"
        if not fits:
            raise ValueError(f"the column {name!r} of examples holds {value!r} in row {place}: it has to be {wanted}")


def _without_long_questions(
    examples: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int
) -> datasets.Dataset:
    if not len(examples):
        return examples
    questions = tokenizer([question.lstrip() for question in examples["question"]], add_special_tokens=False)
    most = max_length - tokenizer.num_special_tokens_to_add(pair=True) - doc_stride - 1
    long = [row for row, ids in enumerate(questions["input_ids"]) if len(ids) > most]
    reason = f"the question has more than the {max(most, 0)} tokens that max_length={max_length} leaves beside "
    return _without(examples, long, reason + f"a context of more than doc_stride={doc_stride} tokens")


def _without_misplaced_answers(examples: datasets.Dataset) -> datasets.Dataset:
    misplaced = [
        row
        for row, (context, answers) in enumerate(zip(examples["context"], examples["answers"], strict=True))
        if answers["text"] and not _gold_characters(context, answers)
    ]
    return _without(examples, misplaced, "the context does not have the answer at answer_start")


def _without(examples: datasets.Dataset, rows: list[int], reason: str) -> datasets.Dataset:
    """The examples without these rows. A warning counts and names them."""
    if not rows:
        return examples
    names = [examples[row]["id"] for row in rows[:3]]
    if len(rows) == len(examples):
        raise ValueError(f"none of the {len(rows)} examples can be used, such as {names}: {reason}")
    logger.warning("%d of %d examples dropped, such as %s: %s", len(rows), len(examples), names, reason)
    return examples.select(sorted(set(range(len(examples))) - set(rows)))


def _gold_characters(context: str, answers: dict[str, Sequence]) -> list[tuple[int, int]]:
    """The first character of each answer, and the one after its last, for answers that the context has at their
    place."""
    pairs = zip(answers["text"], answers["answer_start"], strict=True)
    return [(start, start + len(text)) for text, start in pairs if text and context[start : start + len(text)] == text]


def _windows(batch: dict[str, list], tokenizer, max_length: int, doc_stride: int, golds: int) -> dict[str, list]:
    questions, on_right = [question.lstrip() for question in batch["question"]], tokenizer.padding_side == "right"
    encoded = tokenizer(
        *((questions, batch["context"]) if on_right else (batch["context"], questions)),
        truncation="only_second" if on_right else "only_first",
        max_length=max_length,
        stride=doc_stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding=False if on_right else "max_length",
    )
    rows = encoded.pop("overflow_to_sample_mapping")
    offsets = encoded.pop("offset_mapping")
    features = {name: encoded[name] for name in encoded}
    features |= {name: [] for name in _FEATURES}
    for window, row in enumerate(rows):
        characters = _gold_characters(batch["context"][row], batch["answers"][row])
        in_context = [sequence == int(on_right) for sequence in encoded.sequence_ids(window)]
        mapping = [pair if inside else None for pair, inside in zip(offsets[window], in_context, strict=True)]
        tokens, null_token = encoded["input_ids"][window], null_token_id(tokenizer)
        text = [place for place, attended in enumerate(encoded[window].attention_mask) if attended]
        null = next((place for place in text if tokens[place] == null_token), text[0] if on_right else text[-1])
        context = [place for place, inside in enumerate(in_context) if inside]
        spans = [_gold_tokens(mapping, pair) or (null, null) for pair in characters] or [(null, null)]
        start, end = spans[0]
        inside = [span for span in spans if span[0] != null]
        features["start_positions"].append(start)
        features["end_positions"].append(end)
        features["gold_spans"].append(inside + [(null, null)] * (golds - len(inside)))
        features["context_span"].append([context[0], context[-1]])
        features["null_position"].append(null)
        features["example_id"].append(batch["id"][row])
        features["answerable"].append(bool(characters))
        features["offset_mapping"].append(mapping)
    return features


def _gold_tokens(mapping: list, gold: tuple[int, int]) -> tuple[int, int] | None:
    """First and last token of the gold characters; None if they are not all in this window."""
    places = [place for place, pair in enumerate(mapping) if pair is not None]
    starts, ends = zip(*(mapping[place] for place in places), strict=True)
    if starts[0] > gold[0] or ends[-1] < gold[1]:
        return None
    first = int(np.searchsorted(starts, gold[0], side="right")) - 1
    last = int(np.searchsorted(ends, gold[1], side="left"))
    return places[first], places[max(first, last)]
