"""The surrogates that come with the package."""

import pytest
from synthetic import synthetic

from reloss_hf import GroupMetric, ReLossSeq2SeqTrainer, ReLossSeq2SeqTrainingArguments, SurrogateLoss
from reloss_hf.diagnosis.diagnosis import diagnose
from reloss_hf.sharing.hub import SHIPPED


def test_they_are_small_and_loaded_by_name_without_a_network(monkeypatch):
    monkeypatch.setattr("reloss_hf.sharing.hub.download", None)
    tasks = {name: SurrogateLoss.from_pretrained(name).task for name in ("bleu", "squad_f1")}
    assert tasks == {"bleu": "token_sequence", "squad_f1": "question_answering"}
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 1e6


@pytest.mark.parametrize("name", ["bleu", "squad_f1"])
def test_their_cards_say_on_what_they_were_learned_and_how_they_transfer(name):
    card = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    assert f'surrogate="{name}"' in card and "| source data | " in card
    for row in SurrogateLoss.from_pretrained(name).info["transfer"]:
        assert row["spearman"] > row["spearman_cross_entropy"]
        assert row["spearman_within"] > row["spearman_cross_entropy_within"]
        assert f"| {row['predictions']} | {row['spearman']:.3f} / {row['spearman_within']:.3f} | " in card


def test_bleu_orders_predictions_of_another_make_better_than_cross_entropy():
    surrogate = SurrogateLoss.from_pretrained("bleu")
    diagnosis = diagnose(synthetic(), GroupMetric("sacrebleu"), {"bleu": surrogate}, resamples=100, progress=False)
    assert diagnosis.losses[-1].gain.low > 0
    assert not diagnosis.losses[-1].weights.flagged


def test_a_model_is_trained_on_one_from_the_first_step(warm_model, toy_data, collator, tmp_path):
    settings = {
        "max_steps": 20,
        "learning_rate": 2e-3,
        "report_to": "none",
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    trainer = ReLossSeq2SeqTrainer(
        model=warm_model(),
        args=ReLossSeq2SeqTrainingArguments(str(tmp_path), surrogate_start=0, logging_steps=1, **settings),
        train_dataset=toy_data(64),
        data_collator=collator,
        surrogate="bleu",
    )
    trainer.train()
    losses = [entry["surrogate_loss"] for entry in trainer.state.log_history if "surrogate_loss" in entry]
    assert len(losses) == 20 and sum(losses[10:]) < sum(losses[:10])
