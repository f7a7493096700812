"""A checkpoint that an older version wrote is resumed: the fixtures are never made anew."""

import random
import shutil
import sys
from pathlib import Path

import pytest
import torch
from places import TESTS
from safetensors.torch import load_file, save_file
from toy_training import LastTokensSurrogate, last_word_accuracy
from toy_translation import build_toy_model, make_tokenizer, make_toy_data
from transformers import DataCollatorForSeq2Seq

from reloss_hf import ReLossSeq2SeqTrainer, ReLossSeq2SeqTrainingArguments

FOLDER = TESTS / "fixtures" / "checkpoints_1"
BEFORE, AFTER, LAST = 15, 25, 30  # saved before and after the switch at step 20


def build(folder, **changes):
    tokenizer = make_tokenizer()
    size = {
        "d_model": 12,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 8,
        "decoder_ffn_dim": 8,
        "max_position_embeddings": 8,
    }
    settings = {
        "max_steps": LAST,
        "surrogate_start": 20,
        "surrogate_snapshots": 2,
        "surrogate_snapshot_size": 96,
        "surrogate_group_size": 2,
        "surrogate_class": LastTokensSurrogate.__name__,
        "per_device_train_batch_size": 16,
        "optim": "sgd",
        "learning_rate": 0.01,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return ReLossSeq2SeqTrainer(
        model=build_toy_model(tokenizer, seed=0, **size),
        args=ReLossSeq2SeqTrainingArguments(str(folder), **settings | changes),
        train_dataset=make_toy_data(tokenizer, 480, shortest=2, longest=3),
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        metric=last_word_accuracy,
    )


def weights(trainer):
    """Of the surrogate, and enough of the model's."""
    names = ("model.shared.weight", "model.encoder.layers.0.fc1.weight", "model.decoder.layers.0.fc2.weight")
    found = trainer.model.state_dict()
    learned = {f"surrogate.{name}": value for name, value in trainer.surrogate.state_dict().items()}
    return {name: value.clone() for name, value in {**{name: found[name] for name in names}, **learned}.items()}


@pytest.mark.parametrize("step", [BEFORE, AFTER])
def test_it_ends_with_the_weights_that_the_older_version_came_to(tmp_path, step):
    shutil.copytree(FOLDER / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    trainer = build(tmp_path)
    trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert trainer.state.global_step == LAST and trainer.surrogate_in_force
    expected, found = load_file(FOLDER / "last.safetensors"), weights(trainer)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def make_fixture(folder):
    trainer = build(folder, save_strategy="steps", save_steps=5)
    optimizer, draw = torch.optim.Adam(trainer.model.parameters(), lr=1e-2), random.Random(0)
    for _ in range(45):  # until it knows some words
        trainer.model(**trainer.data_collator(draw.sample(list(trainer.train_dataset), 32))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    trainer.train()
    assert trainer.surrogate_report.objection is None
    save_file(weights(trainer), Path(folder) / "last.safetensors")


if __name__ == "__main__":
    make_fixture(sys.argv[1])
