"""The example of translation, and the corpus that it makes for itself."""

import pytest
from places import ROOT

FOLDER = ROOT / "examples" / "translation"
SMALL = ["--max_train_samples", "480", "--max_eval_samples", "40", "--vocab_size", "300", "--max_target_length", "24"]
SMALL += ["--layers", "1", "--width", "32", "--per_device_train_batch_size", "16", "--num_train_epochs", "1"]
SMALL += ["--surrogate_snapshots", "2", "--surrogate_snapshot_size", "64", "--surrogate_group_size", "2", "--use_cpu"]
pytest.importorskip("babel")


def test_the_corpus_is_the_same_every_time_and_its_splits_share_no_pair(folder):
    import cldr_corpus

    corpus = cldr_corpus.load(train=300, validation=50, test=50)
    pairs = {split: [(p["en"], p["de"]) for p in corpus[split]["translation"]] for split in corpus}
    assert {split: len(rows) for split, rows in pairs.items()} == {"train": 300, "validation": 50, "test": 50}
    assert len(set().union(*map(set, pairs.values()))) == 400
    assert pairs["train"][0] == (
        "34 kilometers and Slovenia, Northern Mariana Islands, Uzbekistan, and Philippines",
        "34 Kilometer und Slowenien, Nördliche Marianen, Usbekistan und Philippinen",
    )


def test_the_example_trains_both_arms_from_one_warm_start_and_continues_where_it_stopped(run_script, tmp_path, capsys):
    results = run_script("run_translation.py", *SMALL)
    arms = {row["arm"]: row for row in results["arms"]}
    assert list(arms) == ["cross_entropy", "surrogate"]
    assert results["warm_start"]["updates"] == 26
    assert arms["cross_entropy"]["updates"] == arms["surrogate"]["updates"] == 30
    for row in arms.values():
        assert {"bleu_greedy", "bleu_beam5", "bleu_greedy_validation", "spearman", "seconds", "signature"} <= set(row)
    assert arms["surrogate"]["spearman"] == arms["surrogate"]["report"]["spearman"]
    assert arms["cross_entropy"]["spearman"] == arms["surrogate"]["report"]["spearman_cross_entropy"]
    assert (tmp_path / "out" / "loss_against_bleu.png").read_bytes().startswith(b"\x89PNG")
    assert "| surrogate | " in capsys.readouterr().out
    assert run_script("run_translation.py", *SMALL)["arms"] == results["arms"]


def test_a_translator_that_says_all_words_at_once_trains_its_arms_from_one_warm_start(run_script, few_steps, capsys):
    small = [*SMALL, "--surrogate_slice", "60", "--surrogate_group_size", "16", "--surrogate_learn_again", "0"]
    results = run_script("run_ctc_translation.py", *small, "--loss", "ctc", "ngrams", "surrogate")
    assert [row["arm"] for row in results["arms"]] == ["ctc", "ngrams", "surrogate"]
    assert len({row["updates"] for row in results["arms"]}) == 1
    for row in (results["warm_start"], *results["arms"]):
        assert 0 <= row["bleu"] <= 100 and row["length"] >= 0 and 0 <= row["repeated"] <= 1
    assert results["arms"][2]["report"]["same_examples"]
    assert "| ngrams | " in capsys.readouterr().out


def test_its_loss_is_that_of_the_trainer_and_padding_changes_nothing(folder):
    import torch
    from ctc_translator import CtcTranslator, CtcTranslatorConfig

    from reloss_hf.tasks.ctc.task import CtcTask

    torch.manual_seed(0)
    model = CtcTranslator(CtcTranslatorConfig(20, layers=1, width=16, heads=2)).eval()
    batch = {"input_ids": torch.randint(2, 20, (2, 6)), "labels": torch.tensor([[3, 4, 4, 7], [9, 2, -100, -100]])}
    batch["attention_mask"] = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    out = model(**batch)
    task = CtcTask(model, None)
    ours, _ = task.base_loss(None, model, batch)
    each = [model(**{name: value[[row]] for name, value in batch.items()}).loss.item() for row in range(2)]
    assert out.loss.item() == pytest.approx(sum(each) / 2)
    assert ours.item() == pytest.approx((each[0] * 4 + each[1] * 2) / 6)
    other = batch | {"input_ids": batch["input_ids"].where(batch["attention_mask"] > 0, 5)}
    assert model(**other).loss.item() == pytest.approx(out.loss.item())
