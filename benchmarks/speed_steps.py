"""What a training step on a surrogate costs, in time and in peak memory, over one on cross-entropy."""

import statistics
from collections.abc import Callable

import torch
from timing import DEVICE, peak_memory, timed
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    DataCollatorForSeq2Seq,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
)

from reloss_hf import (
    AnswersSurrogate,
    DraftSurrogate,
    ExpectedF1Loss,
    MinimumRiskLoss,
    NgramSurrogate,
    OwnOutputSurrogate,
    ReLossCallback,
    ReLossSeq2SeqTrainer,
    ReLossSeq2SeqTrainingArguments,
    ReLossTrainer,
    ReLossTrainingArguments,
    SharpenedF1Surrogate,
)


def time_translation(rounds: int) -> dict:
    """At a large vocabulary, and at the size of the Multi30k model."""
    large = time_steps("step", translation_trainers(60_000, 512, 3), token_batch(60_000, 32, 64), rounds)
    small = time_steps("multi30k_step", translation_trainers(6_000, 192, 3), token_batch(6_000, 128, 16), rounds)
    return large | small


def time_own_output(rounds: int) -> dict:
    """Of the losses that read outputs of the model, at the size of the Multi30k model."""
    return time_steps("own_output_step", own_output_trainers(), token_batch(6_000, 128, 16), rounds)


def time_questions(rounds: int) -> dict:
    return time_steps("question_step", question_trainers(), span_batch(16, 384), rounds)


def time_steps(name: str, trainers: dict, batch: dict, rounds: int) -> dict:
    """Time and memory of a step, forward, backward and optimiser, over those of a step on cross-entropy."""
    steps = {kind: training_step(trainer, batch) for kind, trainer in trainers.items()}
    for step in steps.values():
        step()
    seconds = {kind: [] for kind in steps}
    for _ in range(rounds):
        for kind, step in steps.items():
            seconds[kind].append(timed(step))
    memory = {kind: peak_memory(step) for kind, step in steps.items()}
    base = statistics.median(seconds["cross_entropy"])
    measured = {f"{name}_seconds": round(base, 4)}
    for kind in steps.keys() - {"cross_entropy"}:
        prefix = name if kind == "surrogate" else f"{name}_{kind}"
        measured[f"{prefix}_time_ratio"] = round(statistics.median(seconds[kind]) / base, 3)
        measured[f"{prefix}_memory_ratio"] = round(memory[kind] / memory["cross_entropy"], 3)
    return dict(sorted(measured.items()))


def training_step(trainer, batch: dict) -> Callable[[], None]:
    optimizer = trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()

    def step():
        trainer.training_step(trainer.model, dict(batch))
        optimizer.step()
        optimizer.zero_grad()

    return step


def translation_trainers(vocabulary: int, width: int, layers: int) -> dict[str, ReLossSeq2SeqTrainer]:
    model, tokenizer = translation_model(vocabulary, width, layers)
    return {
        "cross_entropy": translation_trainer(model, tokenizer, surrogate_start=None),
        "surrogate": translation_trainer(model, tokenizer, NgramSurrogate(), surrogate_start=0),
        "collecting": translation_trainer(model, tokenizer, metric="sacrebleu", callbacks=[AlwaysCollect()]),
    }


def own_output_trainers() -> dict[str, ReLossSeq2SeqTrainer]:
    model, tokenizer = translation_model(6_000, 192, 3)
    return {
        "cross_entropy": translation_trainer(model, tokenizer, surrogate_start=None),
        "surrogate": translation_trainer(model, tokenizer, OwnOutputSurrogate(), surrogate_start=0),
        "draft": translation_trainer(model, tokenizer, DraftSurrogate(), surrogate_start=0),
        "minimum_risk": translation_trainer(model, tokenizer, MinimumRiskLoss(), surrogate_start=0),
    }


def translation_model(vocabulary: int, width: int, layers: int) -> tuple[MarianMTModel, PreTrainedTokenizerFast]:
    config = MarianConfig(
        vocab_size=vocabulary, d_model=width, encoder_layers=layers, decoder_layers=layers, encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, encoder_attention_heads=4, decoder_attention_heads=4, pad_token_id=0,
        eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    return MarianMTModel(config).to(DEVICE), make_tokenizer(vocabulary)


def translation_trainer(model, tokenizer, surrogate=None, metric=None, callbacks=None, **changes):
    args = ReLossSeq2SeqTrainingArguments("out/speed", report_to="none", use_cpu=DEVICE.type == "cpu", **changes)
    return ReLossSeq2SeqTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        train_dataset=[{"input_ids": [4, 5, 1], "attention_mask": [1, 1, 1], "labels": [4, 5, 1]}] * 1000,
        surrogate=surrogate,
        metric=metric,
        callbacks=callbacks,
    )


def question_trainers() -> dict[str, ReLossTrainer]:
    config = BertConfig(
        vocab_size=30_000, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    arguments = {
        "model": BertForQuestionAnswering(config).to(DEVICE),
        "processing_class": make_tokenizer(30_000),
        "train_dataset": [{"input_ids": [2, 4, 3, 5, 3], "start_positions": 3, "end_positions": 3}] * 1000,
    }
    args = {"output_dir": "out/speed", "report_to": "none", "use_cpu": DEVICE.type == "cpu"}
    trainers = {
        name: ReLossTrainer(args=ReLossTrainingArguments(**args, surrogate_start=0), surrogate=loss, **arguments)
        for name, loss in (
            ("surrogate", AnswersSurrogate()),
            ("sharpened_f1", SharpenedF1Surrogate()),
            ("expected_f1", ExpectedF1Loss()),
        )
    }
    return trainers | {
        "cross_entropy": ReLossTrainer(args=ReLossTrainingArguments(**args, surrogate_start=None), **arguments),
        "collecting": ReLossTrainer(
            args=ReLossTrainingArguments(**args), metric="squad", callbacks=[AlwaysCollect()], **arguments
        ),
    }


class AlwaysCollect(ReLossCallback):
    """Makes every step one that collects, each a snapshot of its own."""

    start_step, collected = 10**6, 0

    def should_collect(self, args, state):
        return True

    def snapshot(self, args, state):
        self.collected += 1
        return self.collected


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    words = ["<pad>", "</s>", "[CLS]", "[SEP]", *(f"w{number}" for number in range(4, vocabulary))]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="</s>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", cls_token="[CLS]", sep_token="[SEP]"
    )


def token_batch(vocabulary: int, rows: int, length: int) -> dict:
    ids = torch.randint(4, vocabulary, (2, rows, length), device=DEVICE)
    return {"input_ids": ids[0], "attention_mask": torch.ones_like(ids[0]), "labels": ids[1]}


def span_batch(rows: int, length: int) -> dict:
    ids = torch.randint(4, 30_000, (rows, length), device=DEVICE)
    ids[:, 0], ids[:, 15], ids[:, -1] = 2, 3, 3
    starts = torch.randint(20, length - 10, (rows,), device=DEVICE)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": (torch.arange(length, device=DEVICE) > 15).long().expand(rows, -1),
        "start_positions": starts,
        "end_positions": starts + 3,
        "gold_spans": torch.stack([starts + shift for shift in (0, 3, 0, 2, 1, 3)], dim=1).view(rows, 3, 2),
    }
