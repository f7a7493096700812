import pytest
import torch
from tiny_generators import WORDS
from transformers import default_data_collator

from reloss_hf import ReLossSeq2SeqTrainer, ReLossSeq2SeqTrainingArguments


@pytest.fixture
def rows():
    draw = torch.Generator().manual_seed(0)
    return [
        {name: torch.randint(3, WORDS, (6,), generator=draw) for name in ("input_ids", "labels")} for _ in range(64)
    ]


@pytest.fixture
def speech(rows):
    return [{"input_features": torch.randn(8, 20), "labels": row["labels"]} for row in rows]


@pytest.fixture
def make(rows, tmp_path):
    def trainer(model, train=None, arguments=(), **keywords):
        settings = {
            "output_dir": str(tmp_path), "max_steps": 4, "per_device_train_batch_size": 16, "logging_steps": 1,
            "surrogate_start": 2, "save_strategy": "no", "report_to": "none", "use_cpu": True, "disable_tqdm": True,
            **dict(arguments),
        }  # fmt: skip
        args = ReLossSeq2SeqTrainingArguments(**settings)
        parts = {"train_dataset": rows if train is None else train, "data_collator": default_data_collator}
        return ReLossSeq2SeqTrainer(model, args, **parts | keywords)

    return trainer
