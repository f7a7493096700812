"""The examples of speech, and the corpus that they synthesise."""

import numpy as np
import pytest
from places import ROOT

FOLDER = ROOT / "examples" / "speech"
SMALL = ["--layers", "1", "--width", "16", "--heads", "2", "--num_train_epochs", "2", "--warmup_steps", "2"]
SMALL += ["--max_train_samples", "80", "--max_eval_samples", "12", "--surrogate_held_out_share", "0.3"]
SMALL += ["--disable_tqdm", "True", "--use_cpu", "--per_device_train_batch_size", "16", "--surrogate_start", "0.5"]
SMALL += ["--surrogate_learn_again", "0", "--surrogate_snapshots", "2", "--surrogate_snapshot_size", "56"]


@pytest.fixture
def corpus(folder, monkeypatch):
    """The corpus, which is small unless told otherwise."""
    import corpus

    whole = corpus.load
    monkeypatch.setattr(corpus, "load", lambda noise=0.5, **sizes: whole(**{"train": 80, "validation": 8, "test": 8}
                                                                          | sizes, noise=noise))  # fmt: skip
    return corpus


@pytest.fixture
def run(run_script, corpus, few_steps):
    return lambda script, *arguments: run_script(script, *SMALL, *arguments)


def test_words_are_spoken_by_voices_of_different_pitch_and_speed(corpus):
    splits = corpus.load(train=20, validation=2, test=20)
    assert splits["train"].to_list() == corpus.load(train=20, validation=2, test=20)["train"].to_list()
    assert {word for text in splits["train"]["text"] for word in text.split()} <= set(corpus.WORDS)
    seconds = [len(samples) / corpus.RATE for samples in splits["train"]["audio"]]
    assert 0.1 < min(seconds) < max(seconds) < 4
    voices = [corpus.Voice(1, pitch, speed) for pitch, speed in ((100, 0.8), (200, 1.2))]
    slow, fast = (corpus.speak(["seven"], voice, np.random.default_rng(0), noise=0) for voice in voices)
    assert len(slow) > 1.3 * len(fast)


@pytest.mark.parametrize(
    ("script", "base", "arm"),
    [("run_speech_recognition_ctc.py", "ctc", "expected_wer"),
     ("run_speech_recognition_seq2seq.py", "cross_entropy", "as_written")],
)  # fmt: skip
def test_the_examples_train_their_arms_from_one_warm_start(run, tmp_path, capsys, script, base, arm):
    results = run(script, "--loss", base, arm, "surrogate", "--surrogate_group_size", "2")
    assert [row["arm"] for row in results["arms"]] == [base, arm, "surrogate"]
    assert len({row["updates"] for row in results["arms"]}) == 1
    for row in results["arms"]:
        kinds = sum(row[kind] for kind in ("substitutions", "deletions", "insertions"))
        assert row["wer"] == pytest.approx(kinds, abs=2e-4) and row["cer"] >= 0
    assert results["arms"][2]["report"]["metric"] == "wer"
    assert (tmp_path / "out" / "word_errors.png").read_bytes().startswith(b"\x89PNG")
    assert "| surrogate | " in capsys.readouterr().out
