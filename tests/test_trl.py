"""Beside TRL's SFTTrainer: the mixin goes through cross-entropy, collecting, learning and the switch."""

from dataclasses import dataclass

import datasets
import pytest
import torch
from one_step import flat, make_llama
from peft import LoraConfig
from toy_training import history, last_word_accuracy
from toy_walks import tokenized, walks
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)

from reloss_hf import (
    NgramSurrogate,
    ReLossArguments,
    ReLossMixin,
    ReLossSeq2SeqTrainer,
    ReLossTrainer,
    ReLossTrainingArguments,
    TokenErrorProbability,
)
from reloss_hf.tasks import Candidate
from reloss_hf.tasks.token_sequence.features import texts_of, unpacked
from reloss_hf.tasks.token_sequence.task import TokenSequenceTask

trl = pytest.importorskip("trl")


class MyTrainer(ReLossMixin, trl.SFTTrainer):
    pass


@dataclass
class MyArguments(ReLossArguments, trl.SFTConfig):
    pass


@pytest.fixture
def build(tokenizer, tmp_path):
    def make(model=None, trainer=None, **changes):
        settings = {
            "output_dir": str(tmp_path), "max_steps": 24, "surrogate_start": 20, "surrogate_snapshots": 4,
            "surrogate_snapshot_size": 128, "surrogate_group_size": 4, "surrogate_class": "LastTokensSurrogate",
            "per_device_train_batch_size": 32, "learning_rate": 2e-2, "logging_steps": 1, "save_strategy": "no",
            "report_to": "none", "use_cpu": True, "disable_tqdm": True, "gradient_checkpointing": False,
        }  # fmt: skip
        return MyTrainer(
            model or make_llama(tokenizer),
            args=MyArguments(**settings | changes),
            processing_class=tokenizer,
            **{"train_dataset": datasets.Dataset.from_list(list(walks(400))), "metric": last_word_accuracy}
            | (trainer or {}),
        )

    return make


KINDS = {
    "plain": {},
    "packed": {"packing": True, "max_length": 40, "per_device_train_batch_size": 8},
    "padding-free": {"padding_free": True, "max_length": None},
    "LoRA": {"trainer": {"peft_config": LoraConfig(r=16, target_modules="all-linear")}},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error:`return_outputs=True`:FutureWarning")
def test_the_mixin_goes_through_collecting_learning_and_the_switch(build, kind):
    trainer = build(**KINDS[kind])
    trainer.train()
    assert [*history(trainer, "surrogate_in_force").values()] == [0] * 20 + [1] * 4
    assert trainer.surrogate_report.objection is None
    texts = {row["completion"].strip() for row in walks(400)}
    assert set(trainer.predictions.references) <= texts  # of completions alone, each packed text for itself
    counts = (trainer.predictions.candidates >= 0).sum()
    assert 400 < counts <= 4 * 128
    # What TRL logs, it logs until the switch; num_tokens counts no batch of the rehearsal.
    for name in ("mean_token_accuracy", "entropy", "num_tokens"):
        assert list(history(trainer, name)) == list(range(1, 21)), name
    first = next(iter(trainer.get_train_dataloader()))
    assert history(trainer, "num_tokens")[1] < 2 * first["input_ids"].numel()


def test_until_the_switch_it_makes_the_steps_of_trls_own_trainer(build, tokenizer, tmp_path):
    ours = build(max_steps=6, surrogate_start=5, gradient_accumulation_steps=2, per_device_train_batch_size=8)
    ours.reloss_callback.should_switch = lambda *_: False
    ours.train()
    theirs = trl.SFTTrainer(
        make_llama(tokenizer),
        args=trl.SFTConfig(
            str(tmp_path), max_steps=6, gradient_accumulation_steps=2, per_device_train_batch_size=8,
            learning_rate=2e-2, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
            gradient_checkpointing=False,
        ),
        train_dataset=datasets.Dataset.from_list(list(walks(400))),
        processing_class=tokenizer,
    )  # fmt: skip
    theirs.train()
    assert len(ours.predictions)
    torch.testing.assert_close(flat(ours.model), flat(theirs.model), atol=1e-5, rtol=0)


def test_the_head_stays_fused_where_no_outputs_are_needed(build):
    trainer, fused = build(), []
    forward = trainer.model.forward
    trainer.model.forward = lambda *a, **k: fused.append(k.get("fused_lm_head", False)) or forward(*a, **k)
    trainer.train()
    collecting = 4 * 4  # four snapshots of 128 examples, 32 a step
    assert fused.count(True) == 20
    assert fused.count(False) == collecting + 4 + 2  # after the switch, and in the rehearsal


def test_evaluation_goes_on_after_the_switch(build):
    trainer = build(
        surrogate_start=2, max_steps=3, eval_strategy="steps", eval_steps=1, surrogate_class=None,
        trainer={
            "metric": None, "surrogate": NgramSurrogate(),
            "eval_dataset": datasets.Dataset.from_list(list(walks(40, seed=1))),
            "compute_metrics": lambda pair: {"shape": pair.predictions.ndim},
        },
    )  # fmt: skip
    trainer.train()
    assert list(history(trainer, "eval_loss")) == [1, 2, 3]
    assert history(trainer, "eval_loss")[3] < 1 < history(trainer, "eval_loss")[1]
    assert set(history(trainer, "eval_shape").values()) == {3}


def one_step(tokenizer, tmp_path, trainer_class, arguments_class, accumulation, trainer=None, **changes):
    model = make_llama(tokenizer)
    before = flat(model)
    trainer_class(
        model,
        args=arguments_class(
            str(tmp_path), max_steps=1, per_device_train_batch_size=8 // accumulation, optim="sgd", learning_rate=1.0,
            gradient_accumulation_steps=accumulation, lr_scheduler_type="constant", max_grad_norm=0,
            save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, gradient_checkpointing=False,
            bf16=False, **changes,
        ),
        train_dataset=datasets.Dataset.from_list(list(walks(8))),
        processing_class=tokenizer,
        **trainer or {},
    ).train()  # fmt: skip
    return before - flat(model)


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("packed", [{}, {"packing": True, "max_length": 16}])
def test_trls_dft_loss_makes_the_step_of_the_error_probability(tokenizer, tmp_path, accumulation, packed):
    dft = one_step(tokenizer, tmp_path, trl.SFTTrainer, trl.SFTConfig, accumulation, loss_type="dft", **packed)
    given = {"surrogate": TokenErrorProbability()}
    ours = one_step(tokenizer, tmp_path, MyTrainer, MyArguments, accumulation, given, surrogate_start=0, **packed)
    assert dft.abs().max() > 1e-3
    torch.testing.assert_close(ours, dft, atol=1e-5, rtol=0)


def test_packed_texts_are_what_they_are_alone(tokenizer):
    rows = [tokenized(tokenizer, row) for row in walks(7)]
    model = make_llama(tokenizer).eval()
    model.config.use_cache = False
    task = TokenSequenceTask(model, tokenizer)
    alone = DataCollatorForSeq2Seq(tokenizer)(rows)
    together = DataCollatorWithFlattening()(rows, return_tensors="pt")
    candidate = Candidate(3, corruption=0.5)
    found = []
    for batch in (alone, together):
        outputs = model(**task.without_labels(batch))
        assert task.batch_size(batch) == 7
        found.append(
            (
                task.weight(batch),
                task.features(model, outputs, batch, NgramSurrogate.reads),
                task.forced_predictions(outputs, batch, [candidate], range(5)),
            )
        )
    (weight, features, predictions), (packed_weight, packed_features, packed_predictions) = found
    assert weight == packed_weight == features["target_mask"].sum() == packed_features["target_mask"].sum()
    for loss in (NgramSurrogate(), TokenErrorProbability()):
        torch.testing.assert_close(loss(packed_features), loss(features))
    assert packed_predictions.predictions == predictions.predictions
    assert packed_predictions.references == predictions.references
    kept = predictions.features["target_mask"]
    packed_kept = packed_predictions.features["target_mask"]
    torch.testing.assert_close(
        packed_predictions.features["target_log_probs"][packed_kept], predictions.features["target_log_probs"][kept]
    )


def test_rows_are_split_where_position_ids_begin_again():
    labels = torch.tensor([[-100, 5, 6, -100, 7, -100, -100], [-100, -100, -100, 1, 2, 3, -100]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 0, 0], [4, 5, 6, 7, 8, 9, 0]])
    texts = texts_of(positions, labels)
    assert texts.tolist() == [[0, 0, 0, 1, 1, 2, 3], [0, 0, 0, 0, 0, 0, 1]]
    scores = torch.arange(12.0).view(2, 6).requires_grad_()
    parts = unpacked(texts, labels[:, 1:], scores=scores)
    assert parts["targets"].tolist() == [
        [5, 6, -100, -100, -100], [-100, 7, -100, -100, -100], [-100, -100, 1, 2, 3]
    ]  # fmt: skip
    assert parts["scores"].tolist() == [[0, 1, 0, 0, 0], [2, 3, 0, 0, 0], [6, 7, 8, 9, 10]]
    parts["scores"].sum().backward()
    assert scores.grad.tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]
    assert len(unpacked(texts, torch.full((2, 6), -100))["targets"]) == 1
    one_text = torch.arange(7).expand(2, -1)
    assert texts_of(one_text, labels) is texts_of(None, labels) is texts_of(one_text[:, :3], labels) is None


WRONG = [
    (MyTrainer, trl.SFTConfig, r"a SFTConfig: pass an object .*\(ReLossArguments, SFTConfig\): \.\.\."),
    (MyTrainer, TrainingArguments, r"a TrainingArguments: .*class MyArguments\(ReLossArguments, SFTConfig\): \.\.\."),
    (MyTrainer, ReLossTrainingArguments, r"@dataclass class MyArguments\(ReLossArguments, SFTConfig\): \.\.\."),
    (ReLossTrainer, TrainingArguments, r"pass ReLossTrainingArguments, or .*\(ReLossArguments, TrainingArguments\)"),
    (ReLossSeq2SeqTrainer, Seq2SeqTrainingArguments, r"pass ReLossSeq2SeqTrainingArguments, or .*Seq2SeqTrainingArgum"),
]


@pytest.mark.parametrize(("trainer", "arguments", "message"), WRONG)
def test_other_arguments_are_refused_by_an_error_that_shows_the_class_to_write(
    tokenizer, tmp_path, trainer, arguments, message
):
    given = arguments(str(tmp_path), use_cpu=True, report_to="none")
    for positional in (True, False):
        with pytest.raises(TypeError, match=message):
            if positional:
                trainer(make_llama(tokenizer), given)
            else:
                trainer(model=make_llama(tokenizer), args=given)


def test_the_mixin_in_second_place_is_refused():
    with pytest.raises(TypeError, match=r"write class Wrong\(ReLossMixin, SFTTrainer\)"):

        class Wrong(trl.SFTTrainer, ReLossMixin):
            pass

    with pytest.raises(TypeError, match=r"write class WrongArguments\(ReLossArguments, SFTConfig\)"):

        class WrongArguments(trl.SFTConfig, ReLossArguments):
            pass


def test_a_trainer_whose_loss_needs_no_labels_is_refused_before_any_step(tokenizer, tmp_path, monkeypatch):
    class Preferences(ReLossMixin, trl.DPOTrainer):
        pass

    @dataclass
    class PreferenceArguments(ReLossArguments, trl.DPOConfig):
        pass

    monkeypatch.setattr(Trainer, "training_step", lambda *_, **__: pytest.fail("a step was made"))
    rows = [{"prompt": "red", "chosen": " green blue", "rejected": " old new"}] * 80
    with pytest.raises(ValueError, match="the loss of a trainer that needs none, such as DPO's, cannot be replaced"):
        Preferences(
            make_llama(tokenizer),
            make_llama(tokenizer),
            args=PreferenceArguments(str(tmp_path), max_steps=4, use_cpu=True, report_to="none"),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            metric=last_word_accuracy,
        ).train()
