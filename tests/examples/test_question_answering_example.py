"""The question-answering example, and the corpus that it makes for itself."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from places import ROOT

FOLDER = ROOT / "examples" / "question_answering"


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
        assert row["context"].count(text) == 1 and row["context"].count(" .") == 6 and row["title"] in row["question"]
    assert len(Counter(row["answers"]["text"][0] for row in rows)) > 100


def test_corpus_is_the_same_each_time(corpus):
    first, second = (corpus.load(train=20, validation=5, test=5, seed=3) for _ in range(2))
    assert all(first[split].to_list() == second[split].to_list() for split in first)
    assert first["train"].to_list() != corpus.load(train=20, validation=5, test=5, seed=4)["train"].to_list()


def test_the_example_trains_all_arms_from_one_warm_start(tmp_path):
    pytest.importorskip("babel")
    command = [
        *(sys.executable, str(FOLDER / "run_qa.py"), "--output_dir", str(tmp_path), "--use_cpu"),
        *("--max_train_samples", "240", "--max_eval_samples", "30", "--vocab_size", "300", "--layers", "1"),
        *("--width", "32", "--per_device_train_batch_size", "8", "--num_train_epochs", "1"),
        *("--surrogate_snapshots", "2", "--surrogate_snapshot_size", "96", "--surrogate_group_size", "2"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads((tmp_path / "results.json").read_text())
    arms = {row["arm"]: row for row in results["arms"]}
    assert list(arms) == ["cross_entropy", "expected_f1", "surrogate"]
    assert results["warm_start"]["updates"] == 21
    for row in arms.values():
        assert row["updates"] == 30
        assert {"f1", "exact_match", "f1_validation", "exact_match_validation", "spearman", "seconds"} <= set(row)
    assert arms["surrogate"]["spearman"] == arms["surrogate"]["report"]["spearman"]
    assert (tmp_path / "loss_against_f1.png").read_bytes().startswith(b"\x89PNG")
    assert "| expected_f1 | " in done.stdout
