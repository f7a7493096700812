"""One rank of the runs in `test_distributed.py`: trains the toy translation and writes down what came of it."""

import hashlib
import json
import sys
from pathlib import Path

import torch
from conftest import build_toy_model, make_tokenizer, make_toy_data
from test_trainer import LastTokensSurrogate, last_word_accuracy
from transformers import DataCollatorForSeq2Seq

from reloss_hf import Predictions, ReLossSeq2SeqTrainer, ReLossSeq2SeqTrainingArguments


def digest(module: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in module.parameters())).hexdigest()


arguments = {
    "per_device_train_batch_size": 16,
    "max_steps": 60,
    "surrogate_start": 50,
    "surrogate_snapshots": 4,
    "surrogate_snapshot_size": 128,
    "surrogate_group_size": 4,
    "surrogate_class": LastTokensSurrogate.__name__,
    "learning_rate": 1e-2,
    "logging_steps": 10,
    "save_strategy": "no",
    "save_predictions": True,
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
} | json.loads(sys.argv[1])
tokenizer = make_tokenizer()
trainer = ReLossSeq2SeqTrainer(
    model=build_toy_model(tokenizer, seed=0),
    args=ReLossSeq2SeqTrainingArguments(**arguments),
    train_dataset=make_toy_data(tokenizer, 960),
    processing_class=tokenizer,
    data_collator=DataCollatorForSeq2Seq(tokenizer),
    metric=last_word_accuracy,
)
trainer.train()
facts = {
    "world_size": trainer.args.world_size,
    "surrogate": trainer.surrogate and digest(trainer.surrogate),
    "weights": digest(trainer.model),
    "collected": len(trainer.predictions),
    "saved": len(Predictions.load(Path(arguments["output_dir"]) / "predictions")),
    "examples": trainer.surrogate_report.examples,
    "history": [entry.get("surrogate_in_force") for entry in trainer.state.log_history],
}
(Path(arguments["output_dir"]) / f"rank{trainer.args.process_index}.json").write_text(json.dumps(facts))
