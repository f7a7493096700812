"""Runs that are killed, each in a process of its own. Called with a folder that holds `warm.pt`, the weights to start
from; checkpoints go to a folder beside it for each of `KILLS`."""

import gc
import os
import signal
import sys
from pathlib import Path

import torch
from toy_training import LastTokensSurrogate, last_word_accuracy
from toy_translation import build_toy_model, make_tokenizer, make_toy_data
from transformers import DataCollatorForSeq2Seq, TrainerCallback

from reloss_hf import ReLossSeq2SeqTrainer, ReLossSeq2SeqTrainingArguments

# Before which step each run is killed, and the last step that it saved. Predictions are collected in the last three of
# every four steps, and learned from before step 16.
KILLS = {"warm_up": (4, 4), "collecting": (7, 7), "learning": (16, 15), "after_the_switch": (17, 17)}


def build(folder, name, metric=last_word_accuracy, **changes):
    tokenizer = make_tokenizer()
    model = build_toy_model(tokenizer, seed=0)
    model.load_state_dict(torch.load(folder / "warm.pt"))
    return ReLossSeq2SeqTrainer(
        model=model,
        args=ReLossSeq2SeqTrainingArguments(
            output_dir=str(folder / name), max_steps=20, surrogate_start=16, surrogate_snapshots=4,
            surrogate_snapshot_size=96, surrogate_group_size=2, surrogate_class=LastTokensSurrogate.__name__,
            per_device_train_batch_size=32, learning_rate=1e-3, report_to="none", use_cpu=True, disable_tqdm=True,
            **{"save_strategy": "no"} | changes,
        ),
        train_dataset=make_toy_data(tokenizer, 640, shortest=9, longest=9),
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        metric=metric,
    )  # fmt: skip


class Killer(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(folder, name):
    step, saved = KILLS[name]
    calls = []

    def metric(predictions, references):
        calls.append(1)
        if name == "learning" and len(calls) == 500:  # the first call tries the metric, the others are groups
            os.kill(os.getpid(), signal.SIGKILL)
        return last_word_accuracy(predictions, references)

    trainer = build(folder, name, metric, save_strategy="steps", save_steps=saved)
    if name != "learning":
        trainer.add_callback(Killer(step))
    trainer.train()


if __name__ == "__main__":
    gc.freeze()  # as in conftest.py
    for name in KILLS:
        child = os.fork()
        if child == 0:
            run_until_killed(Path(sys.argv[1]), name)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (name, status)
