"""A learned surrogate beside other trainers: as a plain function for `compute_loss_func`."""

import pytest
import torch
from one_step import EXAMPLES, as_prompt, flat, gradient, make_llama
from toy_translation import build_toy_model, make_tokenizer, make_toy_data
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from reloss_hf import ExpectedF1Loss, LogNgramSurrogate, PrefixNgramSurrogate, surrogate_loss_func


@pytest.mark.parametrize("kind", ["marian", "llama"])
@pytest.mark.parametrize("batch_size", [8, 1])
def test_the_plain_trainer_with_the_function_makes_the_steps_of_ours(kind, batch_size, tmp_path):
    tokenizer = make_tokenizer()
    data = list(make_toy_data(tokenizer, EXAMPLES, shortest=2, longest=12))
    model = build_toy_model(tokenizer, seed=0) if kind == "marian" else make_llama(tokenizer)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            str(tmp_path), max_steps=1, per_device_train_batch_size=batch_size, optim="sgd", learning_rate=1.0,
            gradient_accumulation_steps=EXAMPLES // batch_size, lr_scheduler_type="constant", max_grad_norm=0,
            save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
        ),
        train_dataset=data if kind == "marian" else [as_prompt(row) for row in data],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model if kind == "marian" else None),
        compute_loss_func=surrogate_loss_func(LogNgramSurrogate(), model),
    )  # fmt: skip
    before = flat(model)
    trainer.train()
    ours, _ = gradient(kind, "surrogate", EXAMPLES, 1, tmp_path)
    torch.testing.assert_close(before - flat(model), ours, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:`compute_loss_func` is deprecated:FutureWarning")  # in favour of a subclass
def test_trls_sft_trainer_trains_on_a_saved_surrogate(tmp_path):
    trl = pytest.importorskip("trl")
    tokenizer = make_tokenizer()
    LogNgramSurrogate().save_pretrained(tmp_path / "surrogate")
    model = make_llama(tokenizer)
    trainer = trl.SFTTrainer(
        model,
        args=trl.SFTConfig(
            str(tmp_path), max_steps=6, per_device_train_batch_size=8, learning_rate=1e-2, logging_steps=1,
            save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
        ),
        train_dataset=make_toy_data(tokenizer, EXAMPLES).map(as_prompt),
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        compute_loss_func=surrogate_loss_func(tmp_path / "surrogate", model),
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss_func(model(**batch), batch["labels"]).item()
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(expected, rel=1e-3)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("surrogate", [PrefixNgramSurrogate(), ExpectedF1Loss()])
def test_a_surrogate_that_needs_more_than_logits_and_labels_is_refused(surrogate, toy_model):
    with pytest.raises(ValueError, match="a compute_loss_func is given logits and labels alone"):
        surrogate_loss_func(surrogate, toy_model())
