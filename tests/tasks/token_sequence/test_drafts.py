"""A model reads a draft, the most probable token after each beginning of the target, in place of the target."""

import one_step
import peft
import pytest
import torch
from tiny_generators import llama, prompts, switched, t5, whisper

from reloss_hf import DraftSurrogate, surrogate_loss_func
from reloss_hf.tasks.token_sequence.task import TokenSequenceTask

READS = DraftSurrogate.reads


def test_scores_after_a_draft_are_those_of_another_pass(toy_model, tokenizer, toy_data, collator):
    model, batch = toy_model().eval(), dict(collator([toy_data(16)[i] for i in range(12)]))
    features = TokenSequenceTask(model, tokenizer).features(model, model(**batch), batch, READS)
    for row in range(12):
        labels = batch["labels"][row][batch["labels"][row] != -100]
        inputs = {name: batch[name][row : row + 1] for name in ("input_ids", "attention_mask")}
        start = torch.tensor([[model.config.decoder_start_token_id]])
        draft = model(**inputs, labels=labels[None]).logits.argmax(-1)
        draft = torch.where(draft == tokenizer.eos_token_id, labels, draft)
        after = model(**inputs, decoder_input_ids=torch.cat([start, draft[:, :-1]], 1)).logits.log_softmax(-1)[0]
        found = features["draft_log_probs"][row, : len(labels), : len(labels)]
        torch.testing.assert_close(found, after[:, labels], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", [0, 3])
def test_a_decoder_only_model_reads_a_draft_behind_its_prompt(padding):
    model = llama().eval()
    ids = torch.randint(3, 43, (1, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.cat([torch.full((1, 3), -100), ids[:, 3:]], dim=1)
    draft = ids.clone()
    draft[:, 3:] = model(input_ids=ids).logits[:, 2:-1].argmax(-1)
    after = model(input_ids=draft).logits.log_softmax(-1)[0, 2:-1]
    left = torch.zeros(1, padding, dtype=torch.long)
    batch = {
        "input_ids": torch.cat([left, ids], 1),
        "labels": torch.cat([left - 100, labels], 1),
        "attention_mask": torch.cat([left, torch.ones_like(ids)], 1),
    }
    features = TokenSequenceTask(model, None).features(model, model(**batch), batch, READS)
    torch.testing.assert_close(features["draft_log_probs"][0, :5, :5], after[:, ids[0, 3:]], rtol=1e-4, atol=1e-4)


def test_the_prompt_of_whisper_is_no_draft(make, speech):
    trainer = make(whisper(), speech, surrogate=DraftSurrogate())
    switched(trainer)
    trainer.task._decoder.prompt_length = lambda labels: 2
    batch = trainer._prepare_inputs(trainer.data_collator(speech[:4]))
    model = trainer.model.eval()
    features = trainer.task.features(model, model(**batch), batch, READS)
    assert not features["text_mask"][:, :2].any() and features["text_mask"][:, 2:].any()
    own = features["draft_log_probs"].diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(own[:, :3], features["target_log_probs"][:, :3])
    assert not torch.allclose(own[:, 3:], features["target_log_probs"][:, 3:])


@pytest.mark.parametrize("build", [t5, lambda: t5(return_dict=False), llama])
def test_models_train_through_the_switch(make, build):
    switched(make(build(), surrogate=DraftSurrogate()))


@pytest.mark.parametrize("kind", ["marian", "llama"])
def test_eight_micro_batches_have_the_step_of_one(tmp_path, monkeypatch, kind):
    monkeypatch.setitem(one_step.SURROGATES, kind, "DraftSurrogate")
    whole, _ = one_step.gradient(kind, "surrogate", 8, 1, tmp_path)
    split, _ = one_step.gradient(kind, "surrogate", 1, 8, tmp_path)
    torch.testing.assert_close(split, whole, atol=1e-5, rtol=0)


def test_what_cannot_read_a_draft_is_refused(make):
    with pytest.raises(ValueError, match=r"PeftModelForSeq2SeqLM learns a prompt, so it cannot read a draft"):
        make(prompts(peft.PromptTuningConfig, t5(), "SEQ_2_SEQ_LM"), surrogate=DraftSurrogate())
    with pytest.raises(ValueError, match="compute_loss_func is given logits and labels alone"):
        surrogate_loss_func(DraftSurrogate(), llama())
    model, ids = llama(), torch.arange(3, 13).view(1, 10)
    packed = {"input_ids": ids, "labels": ids, "position_ids": torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]])}
    with pytest.raises(ValueError, match="several texts are packed into a row: pass packing=False"):
        TokenSequenceTask(model, None).features(model, model(**packed), packed, READS)
