"""What would fail at the switch fails before the first step, and what does not leaves no trace."""

import copy
import logging
import random

import datasets
import numpy as np
import pytest
import torch
from one_step import EXAMPLES, as_prompt, flat, make_llama
from toy_training import final_weights, history, last_word_accuracy
from toy_translation import build_toy_model
from transformers import MarianMTModel, Trainer
from transformers.modeling_outputs import Seq2SeqLMOutput

import reloss_hf.trainer
from reloss_hf import ReLossSeq2SeqTrainer, ReLossTrainer, TokenErrorProbability
from reloss_hf.run.rehearsal import RehearsalError, rehearse


class Stop(Exception):
    pass


def stop(*_, **__):
    raise Stop


@pytest.fixture
def rehearsed(monkeypatch):
    """The trainers that have rehearsed, in order."""
    calls = []

    def watched(trainer, inputs):
        calls.append(trainer)
        rehearse(trainer, inputs)

    monkeypatch.setattr(reloss_hf.trainer, "rehearse", watched)
    return calls


class LogitsInEvaluation(MarianMTModel):
    """As a fused head gives them."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, **keywords):
        outputs = super().forward(input_ids, attention_mask, labels=labels, **keywords)
        return Seq2SeqLMOutput(loss=outputs.loss) if self.training else outputs


class WritesInPlace(MarianMTModel):
    """Its gradient alone fails, and only where its loss is not its own."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, **keywords):
        outputs = super().forward(input_ids, attention_mask, labels=labels, **keywords)
        if labels is None and self.training:
            outputs.logits = outputs.logits.exp()
            outputs.logits.add_(1)
        return outputs


class Detached(TokenErrorProbability):
    def score(self, features):
        return super().score(features).detach()


def only_the_sample(predictions, references):
    if any(reference != "a small sentence to score" for reference in references):
        raise ZeroDivisionError("no letters")
    return 1.0


FAILING = {
    "a model that gives no logits in training": ({"model": LogitsInEvaluation}, r"no \['logits'\]"),
    "a model whose gradient fails": ({"model": WritesInPlace}, "the loss after the switch.*inplace operation"),
    "a metric that cannot score": ({"trainer": {"metric": only_the_sample}}, "metric='only_the_sample'.*no letters"),
    "a surrogate without a gradient": (
        {"trainer": {"surrogate": Detached(), "metric": None}}, "surrogate=Detached.*depends on no weight"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILING)
def test_what_would_fail_at_the_switch_fails_before_step_1(build, tokenizer, monkeypatch, case):
    changes, message = FAILING[case]
    if "model" in changes:
        model = build_toy_model(tokenizer, seed=0)
        model.__class__ = changes["model"]
        changes = {"model": model}
    trainer = build(max_steps=1000, surrogate_start=0.7, **changes)
    before = flat(trainer.model)
    monkeypatch.setattr(Trainer, "training_step", lambda *_, **__: pytest.fail("a step was made"))
    with pytest.raises(RehearsalError, match=f"Before the first step, .*{message}.*Pass "):
        trainer.train()
    assert trainer.state.global_step == 0
    assert flat(trainer.model).equal(before)


class WithBuffers(MarianMTModel):
    """With dropout, and a batch normalisation that counts what it sees."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, **keywords):
        outputs = super().forward(input_ids, attention_mask, labels=labels, **keywords)
        outputs.logits = torch.nn.functional.dropout(outputs.logits, 0.1, self.training)
        self.norm(outputs.logits.detach().flatten(0, 1))
        return outputs


def with_buffers(tokenizer):
    model = build_toy_model(tokenizer, seed=0)
    model.__class__ = WithBuffers
    model.norm = torch.nn.BatchNorm1d(model.config.vocab_size)
    model.config.dropout = 0.1
    for module in model.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.1
    return model


def drawing_accuracy(predictions, references):
    random.random(), np.random.rand(), torch.rand(1)
    return last_word_accuracy(predictions, references)


def test_a_rehearsal_leaves_no_trace(build, tokenizer, collator):
    trainer = build(model=with_buffers(tokenizer), trainer={"metric": drawing_accuracy})
    trainer.create_optimizer()
    batch = collator([trainer.train_dataset[i] for i in range(8)])
    trainer.model.eval()
    trainer.model.norm.train()

    def everything():
        return copy.deepcopy(
            {
                "weights and buffers": trainer.model.state_dict(),
                "gradients": [weight.grad for weight in trainer.model.parameters()],
                "modes": [module.training for module in trainer.model.modules()],
                "torch": torch.get_rng_state(),
                "numpy": np.random.get_state()[1],
                "random": random.getstate(),
                "optimizer": trainer.optimizer.state_dict()["state"],
                "surrogate": trainer.learner.surrogate.state_dict(),
                "predictions": len(trainer.predictions),
                "batch": dict(batch),
            }
        )

    before = everything()
    rehearse(trainer, batch)
    torch.testing.assert_close(everything(), before, rtol=0, atol=0, equal_nan=True)
    assert before["gradients"][0] is None


def test_a_run_is_what_it_is_without_a_rehearsal(build, tokenizer, monkeypatch):
    def run():
        return final_weights(
            build(model=with_buffers(tokenizer), trainer={"metric": drawing_accuracy}, max_steps=26)
        )  # fmt: skip

    with_rehearsal = run()
    monkeypatch.setattr(reloss_hf.trainer, "rehearse", lambda *_: None)
    assert run().equal(with_rehearsal)


def test_of_data_that_stream_no_batch_is_lost(build, toy_data, rehearsed):
    rows = list(toy_data(640))
    seen = []

    class Watch(ReLossSeq2SeqTrainer):
        def training_step(self, model, inputs, *arguments):
            seen.extend(tuple(label for label in row if label != -100) for row in inputs["labels"].tolist())
            return super().training_step(model, inputs, *arguments)

    stream = datasets.IterableDataset.from_generator(lambda: iter(rows))
    build(Watch, train=stream, max_steps=4, surrogate_start=3).train()
    assert len(rehearsed) == 1
    assert seen == [tuple(row["labels"]) for row in rows[: 4 * 32]]


def test_a_resumed_run_rehearses_too(build, rehearsed, tmp_path):
    build(save_strategy="steps", save_steps=4, max_steps=8, surrogate_start=6).train()
    assert len(rehearsed) == 1
    checkpoint = str(tmp_path / "out" / "checkpoint-4")
    build(max_steps=8, surrogate_start=6).train(resume_from_checkpoint=checkpoint)
    assert len(rehearsed) == 2
    spoiled = build(max_steps=8, surrogate_start=6, trainer={"metric": only_the_sample})
    with pytest.raises(RehearsalError, match="no letters"):
        spoiled.train(resume_from_checkpoint=checkpoint)
    assert spoiled.state.global_step == 4


def test_nothing_is_rehearsed_where_nothing_will_be_switched(build, rehearsed, caplog):
    trainer, passes = build(surrogate_start=None, max_steps=3), []
    trainer.model.register_forward_hook(lambda *_: passes.append(1))
    with caplog.at_level(logging.INFO, logger="reloss_hf"):
        trainer.train()
    assert (len(rehearsed), len(passes), caplog.text) == (0, 3, "")


def test_rows_are_repeated_where_a_group_needs_more_than_a_batch_has(build, monkeypatch):
    groups = []

    def watched(predictions, references):
        groups.append(list(references))
        return last_word_accuracy(predictions, references)

    trainer = build(per_device_train_batch_size=2, surrogate_group_size=8, trainer={"metric": watched})
    groups.clear()  # of construction
    monkeypatch.setattr(Trainer, "training_step", stop)
    with pytest.raises(Stop):
        trainer.train()
    assert {len(group) for group in groups} == {8}
    assert {len(set(group)) for group in groups} == {2}


def test_a_batch_of_one_example_without_labels_is_enough(build):
    trainer = build()
    rehearse(trainer, trainer.data_collator([{"input_ids": [5, 6, 1], "labels": [-100, -100]}]))


@pytest.mark.parametrize("reentrant", [True, False])
def test_models_with_gradient_checkpoints_of_both_kinds_go_through_the_switch(build, tokenizer, toy_data, reentrant):
    rows = [as_prompt(row) for row in toy_data(640)]
    trainer = build(
        ReLossTrainer, train=rows, model=make_llama(tokenizer), gradient_checkpointing=True, max_steps=4,
        gradient_checkpointing_kwargs={"use_reentrant": reentrant}, surrogate_start=2, logging_steps=1,
        trainer={"surrogate": TokenErrorProbability(), "metric": None},
    )  # fmt: skip
    before = flat(trainer.model)
    trainer.train()
    assert history(trainer, "surrogate_in_force") == {1: 0, 2: 0, 3: 1, 4: 1}
    assert not flat(trainer.model).equal(before)


class NeedsMemoryWithoutLabels(MarianMTModel):
    def forward(self, input_ids=None, attention_mask=None, labels=None, **keywords):
        if labels is None and self.training and len(input_ids) > EXAMPLES:
            raise RuntimeError("CUDA out of memory.")
        return super().forward(input_ids, attention_mask, labels=labels, **keywords)


def test_too_little_memory_in_a_rehearsal_makes_batches_smaller_where_that_is_asked_for(build, tokenizer):
    model = build_toy_model(tokenizer, seed=0)
    model.__class__ = NeedsMemoryWithoutLabels
    trainer = build(model=model, auto_find_batch_size=True, max_steps=3, surrogate_start=2, trainer={
        "surrogate": TokenErrorProbability(), "metric": None
    })  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 3
    assert trainer.state.train_batch_size <= EXAMPLES


def test_a_sharded_model_is_not_rehearsed_which_the_log_says(build, collator, caplog):
    trainer = build()
    trainer.is_fsdp_enabled = True
    with caplog.at_level(logging.INFO, logger="reloss_hf.run.rehearsal"):
        rehearse(trainer, {})
    assert "The model is sharded: what happens at the switch is not tried" in caplog.text
