"""The corpus that the question-answering example makes for itself."""

import sys
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "question_answering"


@pytest.fixture
def corpus(monkeypatch):
    pytest.importorskip("babel")
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "cldr_corpus", raising=False)  # the translation example has one, too
    import cldr_corpus

    yield cldr_corpus
    del sys.modules["cldr_corpus"]


def test_answers_lie_where_they_say_and_the_kind_of_question_alone_does_not_tell_them(corpus):
    rows = [row for split in corpus.load(train=300, validation=50, test=50).values() for row in split]
    assert len({row["id"] for row in rows}) == 400
    for row in rows:
        text, start = row["answers"]["text"][0], row["answers"]["answer_start"][0]
        assert row["context"][start : start + len(text)] == text
        assert row["context"].count(" .") == 6 and row["title"] in row["question"]
    assert len(Counter(row["answers"]["text"][0] for row in rows)) > 100


def test_corpus_is_the_same_each_time(corpus):
    first, second = (corpus.load(train=20, validation=5, test=5, seed=3) for _ in range(2))
    assert all(first[split].to_list() == second[split].to_list() for split in first)
    assert first["train"].to_list() != corpus.load(train=20, validation=5, test=5, seed=4)["train"].to_list()
