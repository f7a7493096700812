"""The question-answering example, and the corpus that it makes for itself."""

from collections import Counter
from functools import partial

import pytest
from places import ROOT

FOLDER = ROOT / "examples" / "question_answering"
SMALL = ["--max_train_samples", "240", "--max_eval_samples", "30", "--vocab_size", "300", "--layers", "1"]
SMALL += ["--width", "32", "--per_device_train_batch_size", "8", "--num_train_epochs", "1", "--use_cpu"]
SMALL += ["--surrogate_snapshots", "2", "--surrogate_snapshot_size", "96", "--surrogate_group_size", "2"]
pytest.importorskip("babel")


@pytest.fixture
def corpus(folder):
    import cldr_corpus

    return cldr_corpus


@pytest.fixture
def run(run_script, few_steps):
    return partial(run_script, "run_qa.py", *SMALL)


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


def test_a_share_of_the_questions_has_no_answer_and_the_others_stay_as_they_are(corpus):
    plain, some = (corpus.load(train=300, validation=5, test=5, unanswerable=share)["train"] for share in (0, 1e-9))
    assert plain.to_list() == some.to_list()
    rows = corpus.load(train=600, validation=5, test=5, unanswerable=1 / 3)["train"]
    missing = [row for row in rows if not row["answers"]["text"]]
    assert 0.25 < len(missing) / len(rows) < 0.42
    elsewhere = [row["title"] not in row["context"] for row in missing]
    assert 0.35 < sum(elsewhere) / len(missing) < 0.65
    for row in missing:
        assert row["title"] in row["question"] and row["answers"] == {"text": [], "answer_start": []}


def test_the_example_trains_all_arms_from_one_warm_start(run, tmp_path, capsys):
    results = run()
    arms = {row["arm"]: row for row in results["arms"]}
    assert list(arms) == ["cross_entropy", "expected_f1", "surrogate"]
    assert results["warm_start"]["updates"] == 21
    for row in arms.values():
        assert row["updates"] == 30
        assert {"f1", "exact_match", "f1_validation", "exact_match_validation", "spearman", "seconds"} <= set(row)
    assert arms["surrogate"]["spearman"] == arms["surrogate"]["report"]["spearman"]
    assert (tmp_path / "out" / "loss_against_f1.png").read_bytes().startswith(b"\x89PNG")
    assert "| expected_f1 | " in capsys.readouterr().out


def test_the_example_learns_when_to_abstain_from_a_slice_that_no_arm_is_trained_on(run, capsys):
    more = ("--version_2_with_negative", "--surrogate_held_out_share", "0.25", "--surrogate_learn_again", "0")
    results = run(*more, "--loss", "cross_entropy", "surrogate")
    arms = {row["arm"]: row for row in results["arms"]}
    assert list(arms) == ["cross_entropy", "surrogate"]
    for row in arms.values():
        assert row["updates"] == 23  # batches of 8 of 180 questions
        assert {"f1", "f1_tuned", "f1_answer", "f1_no_answer", "exact_match", "f1_validation"} <= set(row)
    report = arms["surrogate"]["report"]
    assert report["same_examples"] and report["surrogate"] == "AbstentionCosts" and report["metric"] == "squad_v2"
    assert "| arm | f1 | f1_tuned | f1_answer | f1_no_answer | " in capsys.readouterr().out
