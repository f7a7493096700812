"""One rank of the runs in `test_sharded.py`: trains through the switch, and again from a checkpoint before it, with a
model that is sharded or, to compare, is not. Called with a folder and the kind, `ddp`, `fsdp2` or `zero3`."""

import gc
import json
import os
import sys
from pathlib import Path

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from one_step import make_llama
from toy_training import LastTokensSurrogate, history, last_word_accuracy
from toy_translation import make_tokenizer
from toy_walks import tokenized, walks
from transformers import DataCollatorForSeq2Seq

from reloss_hf import ReLossTrainer, ReLossTrainingArguments

FOLDER, KIND = Path(sys.argv[1]), sys.argv[2]
TOKENIZER = make_tokenizer()
DATA = [tokenized(TOKENIZER, row) for row in walks(640)]
SHARDING = {
    "ddp": {},
    "fsdp2": {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "reshard_after_forward": True,
            "state_dict_type": "SHARDED_STATE_DICT",
        },
    },
    "zero3": {
        "deepspeed": {
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "zero_optimization": {"stage": 3},
            "zero_force_ds_cpu_optimizer": False,
        }
    },
}


def shard_on_cpus():
    """accelerate takes DDP where all processes are on CPUs, whatever was asked for: put FSDP in its place."""
    begin = AcceleratorState.__init__

    def begin_sharded(self, *arguments, fsdp_plugin=None, **keywords):
        begin(self, *arguments, fsdp_plugin=fsdp_plugin, **keywords)
        if fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin

    AcceleratorState.__init__ = begin_sharded


def build(name):
    args = ReLossTrainingArguments(
        str(FOLDER / name), max_steps=24, surrogate_start=20, surrogate_snapshots=4, surrogate_snapshot_size=128,
        surrogate_group_size=4, surrogate_class=LastTokensSurrogate.__name__, per_device_train_batch_size=16,
        learning_rate=2e-2, logging_steps=1, save_strategy="steps", save_steps=10, report_to="none", use_cpu=True,
        disable_tqdm=True, **SHARDING[KIND],
    )  # fmt: skip
    return ReLossTrainer(
        model=make_llama(TOKENIZER),
        args=args,
        train_dataset=DATA,
        processing_class=TOKENIZER,
        data_collator=DataCollatorForSeq2Seq(TOKENIZER),
        metric=last_word_accuracy,
    )


def trained(trainer, **arguments):
    whole = sum(weight.numel() for weight in trainer.model.parameters())
    trainer.train(**arguments)
    parts = [getattr(weight, "ds_tensor", weight) for weight in trainer.model.parameters()]
    return {
        "losses": history(trainer, "loss"),
        "in_force": history(trainer, "surrogate_in_force"),
        "share_held": sum(getattr(part, "to_local", lambda part=part: part)().numel() for part in parts) / whole,
        "surrogate": [value.tolist() for value in trainer.surrogate.state_dict().values()],
        "examples": trainer.surrogate_report.examples,
        "saved_predictions": len(list((FOLDER / "run" / "checkpoint-10" / "reloss_state").glob("*.safetensors"))),
    }


gc.freeze()  # as in conftest.py
if KIND == "fsdp2":
    shard_on_cpus()
first = build("run")
facts = {"world_size": first.args.world_size, "run": trained(first)}
facts["resumed"] = trained(build("resumed"), resume_from_checkpoint=str(FOLDER / "run" / "checkpoint-10"))
(FOLDER / f"rank{os.environ['RANK']}.json").write_text(json.dumps(facts))
os._exit(0)  # see distributed_run.py
