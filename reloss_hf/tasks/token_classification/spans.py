"""Counts the entities of many sentences at once, by the rules of seqeval."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np

OUTSIDE = "O"


@dataclass(frozen=True)
class Convention:
    """How tags mark entities.

    Attributes:
        scheme: the scheme by which seqeval reads tags strictly, such as `"IOB2"`; None for its lenient reading, which
            is that of conlleval.
        suffix: whether the prefix of a tag stands behind its type.
    """

    scheme: str | None = None
    suffix: bool = False

    @property
    def prefixes(self) -> str:
        """The prefixes that are allowed beside `O`."""
        return {None: "BIES", "IOB1": "BI", "IOB2": "BI", "IOE1": "IE", "IOE2": "IE", "IOBES": "BIES"}.get(
            self.scheme, "BILU"
        )

    def outside_of_it(self, tags: Sequence[str]) -> list[str]:
        """The tags that are none of this convention."""
        return [tag for tag in tags if tag != OUTSIDE and not self._fits(tag)]

    def _fits(self, tag: str) -> bool:
        prefix, dash = (tag[-1:], tag[-2:-1]) if self.suffix else (tag[:1], tag[1:2])
        return prefix in tuple(self.prefixes) and dash in ("-", "")


@dataclass
class Counts:
    """The counts of groups of sentences: arrays of shape `(groups, types)`, and of tokens, `(groups,)`.

    Attributes:
        types: the types of the entities, sorted.
        hits: the entities that are predicted and in the reference.
        predicted: the predicted entities.
        gold: the entities of the reference.
        right: the tokens with the right tag.
        tokens: all tokens.
    """

    types: list[str]
    hits: np.ndarray
    predicted: np.ndarray
    gold: np.ndarray
    right: np.ndarray
    tokens: np.ndarray


def count_entities(
    predictions: Sequence[list[str]], references: Sequence[list[str]], groups: np.ndarray, convention: Convention
) -> Counts:
    """Count the entities of groups of sentences.

    Args:
        predictions: the predicted tags of each sentence.
        references: the gold tags of each sentence, as many.
        groups: the number of the group of each sentence, int64 from 0.
        convention: how tags mark entities.

    Raises:
        ValueError: a sentence has a tag too many or too few, or a tag is outside of the convention.
    """
    lengths = np.fromiter(map(len, references), dtype=np.int64, count=len(references))
    others = np.fromiter(map(len, predictions), dtype=np.int64, count=len(predictions))
    if (lengths != others).any():
        row = int((lengths != others).argmax())
        raise ValueError(f"sentence {row} has {others[row]} predicted tags, but {lengths[row]} gold tags")
    tags = sorted({OUTSIDE, *chain.from_iterable(predictions), *chain.from_iterable(references)})
    tables = _tables(tuple(tags), convention)
    ids = {tag: number for number, tag in enumerate(tags)}
    group_of_token = np.repeat(groups, lengths + 1)
    count, sequences, entities = int(groups.max()) + 1, [], []
    for sentences in (predictions, references):
        flat = np.fromiter(map(ids.__getitem__, chain.from_iterable(sentences)), dtype=np.int64, count=lengths.sum())
        sequences.append(np.insert(flat, lengths.cumsum(), ids[OUTSIDE]))
        entities.append(_entities(sequences[-1], tables))

    def by_type(ends: np.ndarray, types: np.ndarray) -> np.ndarray:
        places = group_of_token[ends] * len(tables.types) + types
        return np.bincount(places, minlength=count * len(tables.types)).reshape(count, -1)

    (predicted_ends, predicted_begins, predicted_types), (ends, begins, types) = entities
    found = np.full((2, len(group_of_token)), -1)
    found[0, ends], found[1, ends] = begins, types
    hit = (found[:, predicted_ends] == [predicted_begins, predicted_types]).all(0)
    right = np.bincount(group_of_token, sequences[0] == sequences[1], count) - np.bincount(groups, minlength=count)
    return Counts(
        types=tables.types,
        hits=by_type(predicted_ends[hit], predicted_types[hit]),
        predicted=by_type(predicted_ends, predicted_types),
        gold=by_type(ends, types),
        right=right,
        tokens=np.bincount(groups, lengths, count),
    )


def types_of(tags: Sequence[str], suffix: bool = False) -> list[str]:
    """The types of the entities that tags mark, sorted."""
    return sorted({_split(tag, suffix)[1] for tag in tags if tag != OUTSIDE})


@dataclass
class _Tables:
    """What follows from a pair of tags, the earlier first: 0/1 of shape `(tags, tags)`."""

    types: list[str]
    type_of: np.ndarray
    start: np.ndarray  # the later tag begins an entity
    end: np.ndarray  # the earlier tag ends one
    inside: np.ndarray | None  # the later tag continues one; None for the lenient reading


@lru_cache(maxsize=16)
def _tables(tags: tuple[str, ...], convention: Convention) -> _Tables:
    """The answers of seqeval itself, for each pair of tags."""
    wrong = convention.outside_of_it(tags)
    if wrong:
        raise ValueError(
            f"the tags {wrong[:5]} are outside of scheme={convention.scheme!r}, in which a tag is 'O' or begins with "
            f"{', '.join(f'{prefix}-' for prefix in convention.prefixes)}: rename the tags, or pass the right scheme "
            "with mode='strict' by metric_options="
        )
    if convention.scheme is None:
        from seqeval.metrics.sequence_labeling import end_of_chunk, start_of_chunk

        parts = [_split(tag, convention.suffix) for tag in tags]
        types = [kind for _, kind in parts]

        def table(function) -> np.ndarray:
            return np.array([[function(left, right, kind, other) for right, other in parts] for left, kind in parts])

        start, end, inside = table(start_of_chunk), table(end_of_chunk), None
    else:
        import seqeval.scheme

        tokens = [getattr(seqeval.scheme, convention.scheme)(tag, suffix=convention.suffix) for tag in tags]
        types = [token.tag for token in tokens]
        start, end, inside = (
            np.array([[getattr(token, name)(earlier) for token in tokens] for earlier in tokens])
            for name in ("is_start", "is_end", "is_inside")
        )
    known = sorted(set(types))
    return _Tables(known, np.array([known.index(kind) for kind in types]), start, end, inside)


def _split(tag: str, suffix: bool) -> tuple[str, str]:
    """The prefix and the type of a tag, as `seqeval.metrics.sequence_labeling.get_entities` splits it."""
    if suffix:
        return tag[-1], tag[:-1].rsplit("-", maxsplit=1)[0] or "_"
    return tag[0], tag[1:].split("-", maxsplit=1)[-1] or "_"


def _entities(ids: np.ndarray, tables: _Tables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entities in a sequence of tags in which `O` follows each sentence: the places behind their ends, their
    beginnings and their types."""
    pairs = (np.concatenate([ids[-1:], ids[:-1]]), ids)  # the last tag is O, as before the first sentence
    starts = tables.start[pairs]
    if tables.inside is None:
        ends = tables.end[pairs].nonzero()[0]
        begins = np.maximum.accumulate(np.where(starts, np.arange(len(ids)), 0))[ends - 1]
        return ends, begins, tables.type_of[ids[ends - 1]]
    # A run is a tag with all that continue it. It has one entity at most, from its first start to its end.
    outside = ~tables.inside[pairs]
    run, borders = outside.cumsum(), outside.nonzero()[0]
    places = starts.nonzero()[0]
    runs, first = np.unique(run[places], return_index=True)
    begins, ends = places[first], borders[runs]
    whole = tables.end[ids[ends - 1], ids[ends]]
    begins, ends = begins[whole], ends[whole]
    return ends, begins, tables.type_of[ids[begins]]
