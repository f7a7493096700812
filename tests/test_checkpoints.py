"""What a checkpoint keeps, and what is made of one."""

import json

import pytest
import torch
from toy_training import final_weights, history
from transformers import AutoModelForSeq2SeqLM, Seq2SeqTrainer, Seq2SeqTrainingArguments

from reloss_hf import (
    Predictions,
    ReLossSeq2SeqTrainer,
    SurrogateLoss,
)


def test_predictions_are_saved_for_the_command_line_if_asked_for(build, tmp_path):
    trainer = build(save_predictions=True, surrogate_snapshots=2)
    trainer.train()
    saved = Predictions.load(tmp_path / "out" / "predictions")
    assert saved.predictions == trainer.predictions.predictions
    assert saved.candidates.equal(trainer.predictions.candidates)


@pytest.mark.parametrize(("saved_at", "restores"), [(10, False), (20, False), (25, False), (10, True), (25, True)])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(build, tmp_path, saved_at, restores):
    unbroken = build(save_strategy="steps", save_steps=saved_at)
    expected = final_weights(unbroken)
    resumed = build(output_dir=str(tmp_path / "resumed"), restore_callback_states_from_checkpoint=restores)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{saved_at}"))
    found = torch.cat([p.detach().flatten() for p in resumed.model.parameters()])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert resumed.surrogate_report.spearman == unbroken.surrogate_report.spearman


def test_a_smaller_batch_after_running_out_of_memory_begins_again(build):
    class SmallMemory(ReLossSeq2SeqTrainer):
        def compute_loss(self, model, inputs, *arguments, **keywords):
            if len(inputs["labels"]) == 32 and self.state.global_step == 22:
                assert self.surrogate_in_force
                raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
            return super().compute_loss(model, inputs, *arguments, **keywords)

    trainer = build(SmallMemory, auto_find_batch_size=True)
    trainer.train()
    batch_size = trainer.state.train_batch_size
    assert batch_size < 32
    assert set(history(trainer, "surrogate_spearman")) == {20}
    counts = {c: int((trainer.predictions.candidates == c).sum()) for c in range(-4, 4)}
    assert counts == dict.fromkeys(range(-4, 4), min(128, 5 * batch_size))
    assert history(trainer, "surrogate_in_force") == {5: 0, 10: 0, 15: 0, 20: 0, 25: 1, 30: 1}


def test_a_checkpoint_of_the_plain_trainer_is_resumed_in_the_warm_up(
    build, warm_model, toy_data, tokenizer, collator, tmp_path
):
    plain = Seq2SeqTrainer(
        model=warm_model(),
        args=Seq2SeqTrainingArguments(
            str(tmp_path / "plain"), max_steps=10, per_device_train_batch_size=32, learning_rate=3e-3, save_steps=10,
            logging_steps=5, report_to="none", use_cpu=True, disable_tqdm=True,
        ),
        train_dataset=toy_data(640),
        processing_class=tokenizer,
        data_collator=collator,
    )  # fmt: skip
    plain.train()
    trainer = build()
    trainer.train(resume_from_checkpoint=str(tmp_path / "plain" / "checkpoint-10"))
    assert set(history(trainer, "surrogate_spearman")) == {20}
    assert set(trainer.predictions.candidates.tolist()) == {-4, -3, 2, 3}


@pytest.mark.parametrize("settings", [
    {"save_total_limit": 1},
    {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 10},
    {"save_only_model": True},
])  # fmt: skip
def test_ways_of_saving_are_as_in_the_plain_trainer(build, tmp_path, settings):
    trainer = build(save_strategy="steps", save_steps=10, **settings)
    trainer.train()
    assert trainer.surrogate_in_force
    last = tmp_path / "out" / "checkpoint-30"
    AutoModelForSeq2SeqLM.from_pretrained(last)
    assert SurrogateLoss.from_pretrained(last / "surrogate").info["metric"] == "last_word_accuracy"
    assert (last / "reloss_state").is_dir() is ("save_only_model" not in settings)
    assert len(list((tmp_path / "out").glob("checkpoint-*"))) == (1 if "save_total_limit" in settings else 3)


def test_a_saved_model_has_its_surrogate_beside_it(build, tmp_path):
    trainer = build()
    trainer.train()
    trainer.save_model(tmp_path / "final")
    AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "final")
    saved = SurrogateLoss.from_pretrained(tmp_path / "final" / "surrogate")
    assert saved.info["spearman"] == trainer.surrogate_report.spearman
    assert not (tmp_path / "final" / "reloss_state").exists()


def test_a_checkpoint_holds_the_store_and_the_phase(build, tmp_path):
    build(save_strategy="steps", save_steps=10, max_steps=21).train()
    state = json.loads((tmp_path / "out" / "checkpoint-10" / "reloss_state" / "state.json").read_text())
    assert state == {"learns": True, "report": None}
    assert (tmp_path / "out" / "checkpoint-10" / "reloss_state" / "predictions-00000.safetensors").exists()
    assert not (tmp_path / "out" / "checkpoint-10" / "surrogate").exists()


@pytest.mark.parametrize("plain", [True, False])
def test_a_run_on_cross_entropy_alone_is_resumed_in_a_warm_up_of_what_is_left(build, tmp_path, plain):
    checkpoint = tmp_path / "out" / "checkpoint-20"
    build(surrogate_start=None, max_steps=20, save_strategy="steps", save_steps=20).train()
    if plain:
        state = json.loads((checkpoint / "trainer_state.json").read_text())
        del state["stateful_callbacks"]["ReLossCallback"]
        (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    trainer = build(max_steps=40, surrogate_start=0.5, save_strategy="steps", save_steps=20)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    saved = json.loads((tmp_path / "out" / "checkpoint-40" / "trainer_state.json").read_text())
    assert saved["stateful_callbacks"]["ReLossCallback"]["attributes"]["start_step"] == 30
    assert set(history(trainer, "surrogate_spearman")) == {30}
    assert trainer.surrogate_report.examples == 2 * (96 + 128)  # of the end of a snapshot, and of a whole one


def test_a_resumed_run_that_is_longer_stays_on_the_surrogate(build, tmp_path):
    build(surrogate_start=0.5, max_steps=20, save_strategy="steps", save_steps=20).train()
    longer = build(surrogate_start=0.5, max_steps=60)
    longer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-20"))
    assert {on for step, on in history(longer, "surrogate_in_force").items() if step > 20} == {1.0}
    later = build(surrogate_start=0.75, max_steps=60)
    later.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-20"))
    assert history(later, "surrogate_in_force")[45] == 0
    assert history(later, "surrogate_in_force")[50] == 1


def test_a_run_does_not_take_up_the_surrogate_that_an_earlier_one_left_in_its_folder(build, tmp_path):
    checkpoint = tmp_path / "out" / "checkpoint-25"
    build(save_strategy="steps", save_steps=25).train()
    assert (checkpoint / "surrogate").is_dir()
    refused = build(trainer={"metric": lambda *_: 0.5}, save_strategy="steps", save_steps=25)
    refused.train()
    assert refused.surrogate is None
    assert not (checkpoint / "surrogate").exists()


def test_another_split_of_the_same_batch_fills_the_store_as_well(build, tmp_path):
    build(save_strategy="steps", save_steps=1, max_steps=21).train()
    resumed = build(per_device_train_batch_size=4, gradient_accumulation_steps=8)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
    assert all((resumed.predictions.candidates == candidate).sum() == 128 for candidate in range(4))


def test_a_saved_surrogate_is_in_force_also_where_the_checkpoint_holds_a_model_only(build, tmp_path):
    build(save_strategy="steps", save_steps=25, save_only_model=True).train()
    resumed = build()
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-25"))
    assert history(resumed, "surrogate_in_force")[30] == 1
