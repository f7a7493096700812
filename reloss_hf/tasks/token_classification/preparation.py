"""Features for taggers, from words and their tags.

>>> names = tag_names(data["train"])
>>> train, validation = (prepare_tagging_features(data[split], tokenizer, names) for split in ("train", "validation"))
"""

import json
import logging
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from ...classes.losses import IGNORED
from .spans import OUTSIDE

logger = logging.getLogger(__name__)

_COLUMNS = ("tokens", "ner_tags")


def tag_names(dataset: datasets.Dataset) -> list[str]:
    """The names of the tags in the column `ner_tags`: those that the data set declares, or those that occur, with `O`
    first and the others sorted. Load the model with `id2label=dict(enumerate(names))`.

    Raises:
        ValueError: the column is missing, or its tags have no names.
    """
    _require_columns(dataset)
    declared = _declared(dataset)
    if declared is not None:
        return declared
    found = {tag for row in dataset["ner_tags"][:] for tag in row}
    unnamed = [tag for tag in found if not isinstance(tag, str)]
    if unnamed:
        raise ValueError(f"the column 'ner_tags' holds numbers without names, such as {unnamed[0]}: name the tags")
    return sorted(found, key=lambda name: (name != OUTSIDE, name))


def prepare_tagging_features(
    dataset: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str] | None = None,
    max_length: int | None = None,
    stride: int | None = None,
) -> datasets.Dataset:
    """Tokenise words. The first token of each word has its tag. A text that is too long becomes several overlapping
    windows, and each of its words has its tag in the window that shows most of its surroundings.

    Args:
        dataset: columns `tokens`, the words of each text, and `ner_tags`, their tags as names or as numbers.
        tokenizer: a fast tokenizer.
        names: the names of the tags in the order of the model, such as `tag_names(train)`. None if the data set
            declares them, or if its tags are the numbers of the model.
        max_length: tokens of a window. None is 512, or less if the tokenizer says so.
        stride: tokens that a window shares with the one before. None is a quarter of the window.

    Returns:
        One row for each window: the model's inputs; `labels`, the number of the tag, or -100 for special tokens, for
        later tokens of a word, and for words that have their tag in another window; `text`, the row of the text in
        `dataset`.

    Raises:
        ValueError: the tokenizer is slow or cuts on the left; a column is missing; a tag is
            none of `names`; a word has no token; a text has not as many tags as words; a window has no room for words
            beside its stride.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"tokenizer={type(tokenizer).__name__} is slow and does not tell the words of its tokens: pass a fast "
            "tokenizer"
        )
    if _joins_words(tokenizer):
        logger.warning(
            "tokenizer=%s puts no space before words, so it reads words of a text as parts of one another: load it "
            "with add_prefix_space=True",
            type(tokenizer).__name__,
        )
    if tokenizer.truncation_side != "right":
        raise ValueError(f"tokenizer.truncation_side={tokenizer.truncation_side!r} must be 'right', to cut in order")
    _require_columns(dataset)
    max_length = min(512, tokenizer.model_max_length) if max_length is None else max_length
    room = max_length - tokenizer.num_special_tokens_to_add()
    stride = max(room, 0) // 4 if stride is None else stride
    if not 0 <= stride < room:
        raise ValueError(f"stride={stride} must be at least 0, and less than the {room} tokens of a window's words")
    numbers = _numbers(dataset, names)
    return dataset.map(
        lambda batch, rows: _windows(batch, rows, tokenizer, numbers, max_length, stride),
        batched=True,
        with_indices=True,
        remove_columns=dataset.column_names,
        desc="Making windows",
    )


def _joins_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer of bytes, such as those of GPT-2 and RoBERTa, reads the words of a list without spaces."""
    found = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"] or {}
    steps = found.get("pretokenizers", [found])
    return any(step.get("type") == "ByteLevel" and not step["add_prefix_space"] for step in steps)


def _require_columns(dataset: Any) -> None:
    if not isinstance(dataset, datasets.Dataset):
        raise ValueError(
            f"dataset is a {type(dataset).__name__}: pass one datasets.Dataset, such as Dataset.from_list(rows)"
        )
    missing = [name for name in _COLUMNS if name not in dataset.column_names]
    if missing:
        raise ValueError(f"dataset has no columns {missing}, only {dataset.column_names}: rename or add them")


def _declared(dataset: datasets.Dataset) -> list[str] | None:
    """The names of the tags that the data set declares; None if it declares none."""
    feature = getattr(dataset.features["ner_tags"], "feature", None)
    return feature.names if isinstance(feature, datasets.ClassLabel) else None


def _numbers(dataset: datasets.Dataset, names: Sequence[str] | None) -> Mapping[Any, int] | None:
    """The number of each tag of the column; None if the tags are these numbers already."""
    declared = _declared(dataset)
    if declared is not None:
        names = list(declared if names is None else names)
        return {place: names.index(name) for place, name in enumerate(declared) if name in names}
    if getattr(getattr(dataset.features["ner_tags"], "feature", None), "dtype", None) != "string":
        return None
    if names is None:
        raise ValueError(
            "names=None, but the column 'ner_tags' holds names: pass names= in the order of the model, such as "
            "names=tag_names(train)"
        )
    return {name: number for number, name in enumerate(names)}


def _windows(
    batch: Mapping[str, list],
    rows: list[int],
    tokenizer: PreTrainedTokenizerBase,
    numbers: Mapping[Any, int] | None,
    max_length: int,
    stride: int,
) -> dict[str, list]:
    encoded = tokenizer(
        [list(words) for words in batch["tokens"]],
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
    )
    texts = encoded.pop("overflow_to_sample_mapping")
    words = [encoded.word_ids(window) for window in range(len(texts))]
    labels = [[IGNORED] * len(window) for window in words]
    windows_of = {text: list(windows) for text, windows in groupby(range(len(texts)), key=texts.__getitem__)}
    for text, row in enumerate(rows):
        tags, windows = _tags(batch["ner_tags"][text], batch["tokens"][text], row, numbers), windows_of[text]
        places = _places([words[window] for window in windows])
        missing = [word for number, word in enumerate(batch["tokens"][text]) if number not in places]
        if missing:
            raise ValueError(
                f"the word {missing[0]!r} in row {row} has no token, so its tag would be lost: take it out of the data "
                f"with its tag, or replace it by tokenizer.unk_token={tokenizer.unk_token!r}"
            )
        for number, (window, place) in places.items():
            labels[windows[window]][place] = tags[number]
    return {**encoded, "labels": labels, "text": [rows[text] for text in texts]}


def _tags(tags: list, words: list[str], row: int, numbers: Mapping[Any, int] | None) -> list[int]:
    if len(tags) != len(words):
        raise ValueError(f"row {row} has {len(words)} words in 'tokens', but {len(tags)} tags in 'ner_tags'")
    if numbers is None:
        return tags
    unknown = [tag for tag in tags if tag not in numbers]
    if unknown:
        raise ValueError(f"the tag {unknown[0]!r} in row {row} is none of names={list(numbers)}: pass all names")
    return [numbers[tag] for tag in tags]


def _places(windows: list[list[int | None]]) -> dict[int, tuple[int, int]]:
    """Where each word of a text has its tag: its first token in the window that shows most of its surroundings. A text
    ends where its first and its last window end."""
    places: dict[int, tuple[int, int]] = {}
    surroundings: dict[int, float] = {}
    for window, words in enumerate(windows):
        for place, word in enumerate(words):
            if word is None or (place and words[place - 1] == word):
                continue
            before = place if window else np.inf
            behind = len(words) - place if window < len(windows) - 1 else np.inf
            if min(before, behind) > surroundings.get(word, -1):
                places[word], surroundings[word] = (window, place), min(before, behind)
    return places
