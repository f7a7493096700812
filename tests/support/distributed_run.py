"""One rank of the runs in `test_distributed.py`: trains on a global batch of fixed size, however many ranks there are,
and writes down what came of it. Called with a folder that holds `warm.pt`, the weights to start from."""

import gc
import hashlib
import json
import os
import sys
from pathlib import Path

import torch
from one_step import SURROGATES, flat, gradient
from toy_training import LastTokensSurrogate, last_word_accuracy
from toy_translation import build_toy_model, make_tokenizer, make_toy_data
from transformers import DataCollatorForSeq2Seq

from reloss_hf import Predictions, ReLossSeq2SeqTrainer, ReLossSeq2SeqTrainingArguments, SurrogateLoss

FOLDER = Path(sys.argv[1])
PROCESSES, RANK = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
TOKENIZER = make_tokenizer()
DATA = make_toy_data(TOKENIZER, 90 + 640)


def build(name, **changes):
    model = build_toy_model(TOKENIZER, seed=0)
    model.load_state_dict(torch.load(FOLDER / "warm.pt"))
    arguments = {
        "output_dir": str(FOLDER / name),
        "per_device_train_batch_size": 32 // PROCESSES,
        "max_steps": 20,
        "surrogate_start": 16,
        "surrogate_snapshots": 4,
        "surrogate_snapshot_size": 100,
        "surrogate_group_size": 2,
        "surrogate_class": LastTokensSurrogate.__name__,
        "learning_rate": 1e-3,
        "save_strategy": "steps",
        "save_steps": 10,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return ReLossSeq2SeqTrainer(
        model=model,
        args=ReLossSeq2SeqTrainingArguments(**arguments | changes),
        train_dataset=DATA.select(range(90, 730)),
        surrogate_dataset=DATA.select(range(90)),
        processing_class=TOKENIZER,
        data_collator=DataCollatorForSeq2Seq(TOKENIZER),
        metric=last_word_accuracy,
    )


def trained(trainer, **arguments):
    in_force, compute_loss = [], trainer.compute_loss

    def watched(*positional, **keywords):
        in_force.append(trainer.surrogate_in_force)
        return compute_loss(*positional, **keywords)

    trainer.compute_loss = watched
    trainer.train(**arguments)
    surrogate = trainer.surrogate
    return {
        "in_force": in_force,
        "surrogate": surrogate and digest(surrogate),
        "surrogate_weights": surrogate and flat(surrogate).tolist(),
        "model": digest(trainer.model),
        "held": len(trainer.predictions),
        "examples": trainer.surrogate_report.examples,
    }


def digest(module):
    return hashlib.sha256(flat(module).numpy().tobytes()).hexdigest()


def count_calls(cls, name):
    calls, original = [], getattr(cls, name)
    setattr(cls, name, lambda *arguments: calls.append(1) or original(*arguments))
    return calls


gc.freeze()  # as in conftest.py
writes = [count_calls(Predictions, "save"), count_calls(SurrogateLoss, "save_pretrained")]
facts = {}
unbroken = build("unbroken", disable_tqdm=False, save_predictions=True)
facts["unbroken"] = trained(unbroken)
facts["world_size"] = unbroken.args.world_size
resumed = build("resumed")
try:
    facts["resumed"] = trained(resumed, resume_from_checkpoint=str(FOLDER / "unbroken" / "checkpoint-10"))
    facts["resumed"]["difference"] = (flat(resumed.model) - flat(unbroken.model)).abs().max().item()
except RuntimeError as error:  # older Trainers load the optimiser to "cpu:0" where several processes run on a CPU
    if "cpu:0" not in str(error):
        raise

if PROCESSES < 4:
    generated = build("generated", surrogate_predictions="generate", per_device_eval_batch_size=32, max_steps=17)
    facts["generated"] = trained(generated)

if PROCESSES == 2:
    poisoned = build("poisoned", max_steps=17)
    forced_predictions = poisoned.task.forced_predictions

    def without_scores(*arguments):
        predictions = forced_predictions(*arguments)
        predictions.features["target_log_probs"].fill_(float("nan"))
        return predictions

    if RANK == 1:
        poisoned.task.forced_predictions = without_scores
    facts["poisoned"] = trained(poisoned)

    kinds = [(kind, phase) for kind in SURROGATES for phase in ("cross_entropy", "surrogate")]
    gradients = {", ".join(kind): gradient(*kind, batch_size=2, accumulation=2, output_dir=FOLDER)[0] for kind in kinds}
    if RANK == 0:
        torch.save(gradients, FOLDER / "gradients.pt")

facts["writes"] = [len(calls) for calls in writes]
(FOLDER / f"rank{RANK}.json").write_text(json.dumps(facts))
# Not by the end of the script: a thread of gloo that lets go of its last tensor while Python is being finalised aborts.
os._exit(0)
