"""What people do with a Trainer beside training once: searches, short runs, resumed ones, subclasses."""

import gc
import logging
import weakref

import pytest
import torch
from toy_translation import build_toy_model
from transformers import EarlyStoppingCallback, HfArgumentParser, TrainerCallback

from reloss_hf import (
    NgramSurrogate,
    ReLossSeq2SeqTrainer,
    ReLossSeq2SeqTrainingArguments,
    ReLossTrainingArguments,
    TokenErrorProbability,
)


def plain(build, trainer=None, **arguments):
    """A trainer to which no metric is named."""
    settings = {"surrogate_class": None, "max_steps": 8, "surrogate_start": 0.5} | arguments
    return build(trainer={"metric": None} | (trainer or {}), **settings)


def test_the_task_follows_the_model_of_each_run_and_the_first_is_freed(tokenizer, toy_data, collator, tmp_path):
    made = []

    def model_init():
        model = build_toy_model(tokenizer, seed=0)
        model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 3 + len(made)
        made.append(weakref.ref(model))
        return model

    args = ReLossSeq2SeqTrainingArguments(
        output_dir=str(tmp_path), max_steps=4, surrogate_start=0.5, save_strategy="no", report_to="none", use_cpu=True
    )
    trainer = ReLossSeq2SeqTrainer(
        model_init=model_init, args=args, train_dataset=toy_data(64), data_collator=collator, processing_class=tokenizer
    )
    trainer.train()
    gc.collect()
    assert [ref() is not None for ref in made] == [False] * (len(made) - 1) + [True]
    batch = {"input_ids": torch.tensor([[5, 1]]), "labels": torch.tensor([[6, 1]])}
    assert trainer.task.without_labels(batch)["decoder_input_ids"][0, 0] == trainer.model.config.decoder_start_token_id


@pytest.mark.parametrize("start", [1, 1.0])
def test_a_start_that_may_mean_all_of_the_run_or_its_first_step_is_refused(start, tmp_path):
    with pytest.raises(ValueError, match="surrogate_start=1.* may mean the whole run or its first step: pass None"):
        ReLossTrainingArguments(output_dir=tmp_path, surrogate_start=start)


@pytest.mark.parametrize(("text", "value"), [("None", None), ("0.25", 0.25), ("40", 40.0)])
def test_a_start_is_read_from_a_command_line(text, value, tmp_path):
    line = ["--output_dir", str(tmp_path), "--surrogate_start", text]
    (arguments,) = HfArgumentParser(ReLossTrainingArguments).parse_args_into_dataclasses(line)
    assert arguments.surrogate_start == value


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_smoke_test_with_all_defaults_passes_and_says_that_nothing_was_learned(build, caplog, steps):
    with caplog.at_level(logging.WARNING):
        trainer = plain(build, max_steps=steps, surrogate_start=0.7)
        trainer.train()
    assert trainer.state.global_step == steps
    assert "No surrogate will be learned or used" in caplog.text


def test_a_run_that_stops_before_the_switch_says_so(build, caplog):
    class StopEarly(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 2

    with caplog.at_level(logging.WARNING):
        plain(build, trainer={"callbacks": [StopEarly()]}).train()
    assert "No surrogate was learned or used" in caplog.text and "after step 2" in caplog.text


def test_early_stopping_goes_along(build):
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2}
    stopping = {"callbacks": [EarlyStoppingCallback(1)], "compute_metrics": lambda _: {"share": 0.0}}
    trainer = plain(build, stopping, **best, save_steps=2, metric_for_best_model="eval_share")
    trainer.train()
    assert trainer.state.global_step == 4


def test_a_loss_of_ones_own_that_never_asks_for_ours_is_told(build, caplog):
    class Own(ReLossSeq2SeqTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            outputs = model(**inputs)
            return (outputs.loss, outputs) if return_outputs else outputs.loss

    with caplog.at_level(logging.WARNING):
        plain(lambda **keywords: build(Own, **keywords)).train()
    assert caplog.text.count("Own overrides compute_loss and does not call super().compute_loss()") == 1


def test_outputs_have_the_same_names_in_the_same_order_before_and_after_the_switch(build):
    seen = []

    class Watched(ReLossSeq2SeqTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, **keywords):
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **keywords)
            seen.append((list(outputs), outputs[1].shape, self.surrogate_in_force))
            assert torch.equal(outputs["loss"], outputs[0])
            return (loss, outputs) if return_outputs else loss

    plain(lambda **keywords: build(Watched, **keywords)).train()
    before = [names for names, _, in_force in seen if not in_force]
    after = [names for names, _, in_force in seen if in_force]
    assert len(before) == len(after) == 4
    assert before[0] == after[0] and before[0][:2] == ["loss", "logits"]


def checkpoint_of_a_run(build, tmp_path, **changes):
    trainer = build(save_strategy="steps", save_steps=25, **changes)
    trainer.train()
    assert trainer.surrogate is not None
    return trainer, str(tmp_path / "out" / "checkpoint-25")


def test_a_run_resumed_without_its_metric_goes_on_with_what_was_learned(build, tmp_path, caplog):
    first, checkpoint = checkpoint_of_a_run(build, tmp_path)
    resumed = build(trainer={"metric": None}, surrogate_class=None)
    with caplog.at_level(logging.WARNING):
        resumed.train(resume_from_checkpoint=checkpoint)
    assert type(resumed.surrogate) is type(first.surrogate)
    assert "although metric=None now" in caplog.text


def test_a_run_resumed_with_another_metric_says_which_loss_it_goes_on_with(build, tmp_path, caplog):
    first, checkpoint = checkpoint_of_a_run(build, tmp_path)
    resumed = build(trainer={"metric": "sacrebleu"})
    with caplog.at_level(logging.WARNING):
        resumed.train(resume_from_checkpoint=checkpoint)
    assert resumed.surrogate.info["metric"] == first.surrogate.info["metric"]
    assert "to learn it, start a new run" in caplog.text


def test_a_run_resumed_with_a_surrogate_takes_it_and_says_so(build, tmp_path, caplog):
    _, checkpoint = checkpoint_of_a_run(build, tmp_path)
    resumed = build(trainer={"metric": None, "surrogate": TokenErrorProbability()}, surrogate_class=None)
    with caplog.at_level(logging.WARNING):
        resumed.train(resume_from_checkpoint=checkpoint)
    assert isinstance(resumed.surrogate, TokenErrorProbability)
    assert "Training uses surrogate=TokenErrorProbability and not the" in caplog.text


def test_a_run_resumed_as_it_was_says_nothing(build, tmp_path, caplog):
    _, checkpoint = checkpoint_of_a_run(build, tmp_path)
    with caplog.at_level(logging.WARNING, logger="reloss_hf"):
        build().train(resume_from_checkpoint=checkpoint)
        plain(build, {"surrogate": NgramSurrogate()}, save_strategy="steps", save_steps=6).train()
    assert "Training continues with" not in caplog.text and "Training uses surrogate=" not in caplog.text
