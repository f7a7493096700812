"""What people use with a Trainer: each goes through cross-entropy, learning and the surrogate undisturbed."""

import shutil
from dataclasses import fields

import peft
import pytest
import torch
import toy_questions
from one_step import as_prompt, flat
from toy_training import last_word_accuracy, learning_less
from toy_translation import make_toy_data
from transformers import (
    Adafactor,
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    get_constant_schedule_with_warmup,
)

from reloss_hf import (
    ReLossSeq2SeqTrainer,
    ReLossSeq2SeqTrainingArguments,
    ReLossTrainer,
    ReLossTrainingArguments,
    SurrogateLoss,
    prepare_features,
)


class SwitchAnyway:
    """Uses what was learned also where a few steps could not make it better than cross-entropy."""

    def _learn(self, *predictions):
        surrogate, report, _ = super()._learn(*predictions)
        return surrogate, report, None


class Translation(SwitchAnyway, ReLossSeq2SeqTrainer): ...


class QuestionAnswering(SwitchAnyway, ReLossTrainer): ...


def arguments(folder, **changes):
    return {
        "output_dir": str(folder), "max_steps": 8, "surrogate_start": 5, "surrogate_snapshots": 2,
        "surrogate_snapshot_size": 64, "surrogate_group_size": 2, "per_device_train_batch_size": 32,
        "learning_rate": 3e-3, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "use_cpu": True,
        "disable_tqdm": True, **changes,
    }  # fmt: skip


@pytest.fixture
def translation(warm_model, tokenizer, tmp_path):
    def make(model=None, trainer=None, folder=tmp_path, **changes):
        parts = {
            "train_dataset": make_toy_data(tokenizer, 320),
            "eval_dataset": make_toy_data(tokenizer, 32, seed=1),
            "data_collator": DataCollatorForSeq2Seq(tokenizer),
            "processing_class": tokenizer,
            "metric": last_word_accuracy,
        } | (trainer or {})
        args = ReLossSeq2SeqTrainingArguments(**arguments(folder, **changes))
        return learning_less(Translation(model or warm_model(), args, **parts))

    return make


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def check(trainer):
    assert trainer.surrogate_in_force
    assert len(trainer.predictions) == 2 * 2 * 64
    assert len(losses(trainer)) == 8
    assert torch.tensor(losses(trainer)).isfinite().all()
    assert flat(trainer.model).isfinite().all()


SETTINGS = {
    "bf16": {"bf16": True},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "accumulation": {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2},
    "adafactor": {"optim": "adafactor"},
    "warm-up of the schedule": {"lr_scheduler_type": "cosine", "warmup_steps": 6},
    "label names": {"label_names": ["labels"]},
    "torch_compile": {"torch_compile": True, "torch_compile_backend": "aot_eager"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_the_trainer_goes_through_the_switch(translation, name):
    trainer = translation(**SETTINGS[name])
    trainer.train()
    check(trainer)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a compiler")
def test_inductor_goes_through_the_switch(translation, tokenizer):
    """With a model of few kernels: it is the compiler that takes its time."""
    size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    equal = make_toy_data(tokenizer, 320, shortest=7, longest=7).map(as_prompt)
    trainer = translation(
        LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size)),
        trainer={"train_dataset": equal},
        torch_compile=True,
        torch_compile_backend="inductor",
    )
    trainer.train()
    check(trainer)


def test_batches_by_length_go_through_the_switch(translation):
    known = {field.name for field in fields(ReLossTrainingArguments)}
    setting = {"train_sampling_strategy": "group_by_length", "group_by_length": True}  # transformers 5 and 4
    trainer = translation(**{name: value for name, value in setting.items() if name in known})
    trainer.train()
    check(trainer)


def test_generation_metrics_and_their_preprocessing_are_called_as_ever(translation, tokenizer):
    seen = []

    def compute_metrics(prediction):
        seen.append(prediction.predictions.shape)
        return {"rows": len(prediction.predictions)}

    generating = translation(
        predict_with_generate=True, eval_strategy="steps", eval_steps=4, trainer={"compute_metrics": compute_metrics}
    )
    generating.train()
    check(generating)
    assert [entry["eval_rows"] for entry in generating.state.log_history if "eval_rows" in entry] == [32, 32]
    best = {"preprocess_logits_for_metrics": lambda logits, labels: logits[0].argmax(-1)}
    scoring = translation(trainer=best | {"compute_metrics": compute_metrics})
    assert scoring.evaluate()["eval_rows"] == 32
    assert len(seen[0]) == len(seen[-1]) == 2


def test_an_optimizer_and_a_collator_of_ones_own_are_used(translation, warm_model, tokenizer):
    model = warm_model()
    optimizer = Adafactor(model.parameters(), lr=1e-3, scale_parameter=False, relative_step=False)
    calls, collate = [], DataCollatorForSeq2Seq(tokenizer)
    trainer = translation(
        model,
        trainer={
            "optimizers": (optimizer, get_constant_schedule_with_warmup(optimizer, 2)),
            "data_collator": lambda rows: calls.append(len(rows)) or collate(rows),
        },
    )
    trainer.train()
    check(trainer)
    assert trainer.optimizer.optimizer is optimizer
    assert len(calls) >= 8


def test_lora_on_marian_is_resumed_with_its_surrogate(translation, warm_model, tmp_path):
    def adapted():
        torch.manual_seed(0)
        config = peft.LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, target_modules=["q_proj", "v_proj"])
        return peft.get_peft_model(warm_model(), config)

    unbroken = translation(adapted(), save_strategy="steps", save_steps=4, learning_rate=1e-2)
    unbroken.train()
    check(unbroken)
    resumed = translation(adapted(), folder=tmp_path / "resumed", learning_rate=1e-2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    torch.testing.assert_close(flat(resumed.model), flat(unbroken.model), atol=1e-6, rtol=0)
    assert (tmp_path / "checkpoint-8" / "adapter_model.safetensors").exists()
    assert SurrogateLoss.from_pretrained(tmp_path / "checkpoint-8" / "surrogate").info["metric"] == "last_word_accuracy"


def test_lora_on_a_question_answering_model_is_resumed_with_its_surrogate(tmp_path):
    tokenizer = toy_questions.make_tokenizer()
    features = prepare_features(toy_questions.make_examples(200), tokenizer, 64, 16)

    def build(folder, **changes):
        torch.manual_seed(0)
        config = peft.LoraConfig(task_type="QUESTION_ANS", r=4, target_modules=["query", "value"])
        model = peft.get_peft_model(toy_questions.make_model(), config)
        args = ReLossTrainingArguments(**arguments(folder, **changes))
        trainer = QuestionAnswering(model, args, train_dataset=features, processing_class=tokenizer, metric="squad")
        return learning_less(trainer)

    unbroken = build(tmp_path, save_strategy="steps", save_steps=4)
    unbroken.train()
    check(unbroken)
    resumed = build(tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    torch.testing.assert_close(flat(resumed.model), flat(unbroken.model), atol=1e-6, rtol=0)
