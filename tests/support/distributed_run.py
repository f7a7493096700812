"""The runs in `test_distributed.py`: each rank trains on a global batch of fixed size, however many ranks there are,
and writes down what came of it in a folder that holds `warm.pt`, the weights to start from.

Called with that folder it is one rank of a launcher such as torchrun. Called with several, named by the numbers of
their ranks, it launches these itself, one number after the other: they are forked, so that nothing is imported twice.
"""

import gc
import hashlib
import json
import os
import socket
import sys
import traceback
from pathlib import Path

import torch
import toy_abstention
import toy_pixels
import toy_poses
import toy_speech
import toy_tags
import toy_whisper
from forced import Forced
from one_step import SURROGATES, flat, gradient
from toy_classes import Bag, make_rows, make_trainer, recall_of_rare
from toy_training import LastTokensSurrogate, last_word_accuracy, learning_less
from toy_translation import build_toy_model, make_tokenizer, make_toy_data
from transformers import DataCollatorForSeq2Seq

from reloss_hf import (
    CtcNgramLoss,
    HardKeypointMining,
    OwnOutputSurrogate,
    PixelJaccardLoss,
    Predictions,
    ReLossSeq2SeqTrainer,
    ReLossSeq2SeqTrainingArguments,
    SoftF1Loss,
    SurrogateLoss,
    TagSoftF1Loss,
)

TOKENIZER = make_tokenizer()
DATA = make_toy_data(TOKENIZER, 90 + 640)


def build(folder, name, **changes):
    model = build_toy_model(TOKENIZER, seed=0)
    model.load_state_dict(torch.load(folder / "warm.pt"))
    arguments = {
        "output_dir": str(folder / name),
        "per_device_train_batch_size": 32 // int(os.environ["WORLD_SIZE"]),
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
    trainer = ReLossSeq2SeqTrainer(
        model=model,
        args=ReLossSeq2SeqTrainingArguments(**arguments | changes),
        train_dataset=DATA.select(range(90, 730)),
        surrogate_dataset=DATA.select(range(90)),
        processing_class=TOKENIZER,
        data_collator=DataCollatorForSeq2Seq(TOKENIZER),
        metric=last_word_accuracy,
    )
    return learning_less(trainer)


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


def classified(folder):
    """Weights and costs of models of classes, tags, pixels, poses and speech, and of readers, on learned costs and on
    losses that are written by hand. They train on global batches of 8."""
    processes, found = int(os.environ["WORLD_SIZE"]), {}
    for name, keywords in {
        "learned": {"metric": recall_of_rare, "surrogate_dataset": make_rows(400, seed=7, several=True)},
        "soft_f1": {"surrogate": SoftF1Loss()},
        "learned_tags": {"metric": "seqeval", "surrogate_dataset": toy_tags.make_features(200, seed=7)},
        "soft_f1_of_tags": {"surrogate": TagSoftF1Loss()},
        "learned_pixels": {"metric": "mean_iou", "surrogate_dataset": toy_pixels.make_scenes(40, seed=7)},
        "soft_iou_of_pixels": {"surrogate": PixelJaccardLoss()},
        "learned_abstentions": {"metric": "squad_v2", "surrogate_dataset": toy_abstention.make_features(60, seed=7)},
        "learned_poses": {
            "metric": "pck",
            "metric_options": toy_poses.TORSO,
            "surrogate_dataset": toy_poses.make_rows(60, seed=7),
        },
        "hard_keypoints_of_poses": {"surrogate": HardKeypointMining()},
        "learned_ctc": {"metric": "wer", "surrogate_dataset": toy_speech.make_rows(40, seed=7)},
        "ngrams_of_ctc": {"surrogate": CtcNgramLoss()},
        "own_output_of_whisper": {"surrogate": OwnOutputSurrogate()},
    }.items():
        arguments = {
            "max_steps": 8,
            "surrogate_start": 4 if "metric" in keywords else 0,
            "per_device_train_batch_size": 8 if processes == 1 else 2,
            "gradient_accumulation_steps": 1 if processes == 1 else 2,
            "optim": "sgd",
            "learning_rate": 0.5,
        }
        if "pixels" in name:
            rows = toy_pixels.make_scenes(100)
            trainer = toy_pixels.make_trainer(folder / name, rows, cls=Forced, arguments=arguments, **keywords)
        elif "ctc" in name:
            arguments |= {"max_steps": 6, "learning_rate": 0.05, "surrogate_group_size": 8, "surrogate_learn_again": 0}
            speech = {"train": toy_speech.make_rows(60), "model": toy_speech.make_model(), "cls": Forced}
            trainer = toy_speech.make_trainer(folder / name, arguments=arguments, **speech, **keywords)
        elif "whisper" in name:
            rows = toy_whisper.make_rows(120)
            longest = max(len(row["labels"]) for row in rows)  # of a micro-batch, tells how long an output may be
            rows = [row for row in rows if len(row["labels"]) == longest]
            trainer = toy_whisper.make_trainer(folder / name, rows, arguments=arguments, **keywords)
        elif "tags" in name:
            trainer = toy_tags.make_trainer(folder / name, cls=Forced, arguments=arguments, **keywords)
        elif "abstentions" in name:
            equal = [row for row in toy_abstention.make_features(600) if len(row["input_ids"]) == 14][:64]
            arguments |= {"learning_rate": 0.1}
            trainer = toy_abstention.make_trainer(folder / name, equal, arguments=arguments, **keywords)
        elif "poses" in name:
            rows = toy_poses.make_rows(80)
            trainer = toy_poses.make_trainer(folder / name, rows, cls=toy_poses.Forced, arguments=arguments, **keywords)
        else:
            several = {"several": True, "model": Bag(several=True)}
            trainer = make_trainer(folder / name, cls=Forced, arguments=arguments, **several, **keywords)
        trainer.train()
        found[name] = {
            "weights": flat(trainer.model).tolist(),
            "costs": torch.cat([*trainer.surrogate.error_costs().values(), torch.empty(0)]).tolist(),
            "in_force": trainer.surrogate_in_force,
        }
    return found


def digest(module):
    return hashlib.sha256(flat(module).numpy().tobytes()).hexdigest()


def count_calls(cls, name):
    calls, original = [], getattr(cls, name)
    setattr(cls, name, lambda *arguments: calls.append(1) or original(*arguments))
    return calls


def run_rank(folder):
    processes, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    writes = [count_calls(Predictions, "save"), count_calls(SurrogateLoss, "save_pretrained")]
    facts = {}
    unbroken = build(folder, "unbroken", disable_tqdm=False, save_predictions=True)
    facts["unbroken"] = trained(unbroken)
    facts["world_size"] = unbroken.args.world_size
    resumed = build(folder, "resumed")
    try:
        facts["resumed"] = trained(resumed, resume_from_checkpoint=str(folder / "unbroken" / "checkpoint-10"))
        facts["resumed"]["difference"] = (flat(resumed.model) - flat(unbroken.model)).abs().max().item()
    except RuntimeError as error:  # older Trainers load the optimiser to "cpu:0" where several processes run on a CPU
        if "cpu:0" not in str(error):
            raise

    if processes < 4:
        facts["classes"] = classified(folder)
        generated = build(
            folder, "generated", surrogate_predictions="generate", per_device_eval_batch_size=32, max_steps=17
        )
        facts["generated"] = trained(generated)

    if processes == 2:
        poisoned = build(folder, "poisoned", max_steps=17)
        forced_predictions = poisoned.task.forced_predictions

        def without_scores(*arguments):
            predictions = forced_predictions(*arguments)
            predictions.features["target_log_probs"].fill_(float("nan"))
            return predictions

        if rank == 1:
            poisoned.task.forced_predictions = without_scores
        facts["poisoned"] = trained(poisoned)

        kinds = [(kind, phase) for kind in SURROGATES for phase in ("cross_entropy", "surrogate")]
        gradients = {
            ", ".join(kind): gradient(*kind, batch_size=2, accumulation=2, output_dir=folder)[0] for kind in kinds
        }
        if rank == 0:
            torch.save(gradients, folder / "gradients.pt")

    facts["writes"] = [len(calls) for calls in writes]
    (folder / f"rank{rank}.json").write_text(json.dumps(facts))
    # Not by the end of the script: a thread of gloo that lets go of its last tensor while Python is being finalised
    # aborts.
    os._exit(0)


def launch(folder, processes):
    """Fork the ranks, as torchrun starts them, with what they print to stderr in a file; wait for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = []
    for rank in range(processes):
        children.append(os.fork())
        if children[-1] == 0:
            os.environ.update(
                {name: str(value) for name, value in (world | {"RANK": rank, "LOCAL_RANK": rank}).items()}
            )
            os.dup2(os.open(folder / "stderr", os.O_CREAT | os.O_APPEND | os.O_WRONLY), sys.stderr.fileno())
            try:
                run_rank(folder)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
    # Where one fails, the others wait for it, until the test ends them all.
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    gc.freeze()  # as in conftest.py
    folders = [Path(argument) for argument in sys.argv[1:]]
    if "WORLD_SIZE" in os.environ:
        run_rank(folders[0])
    failed = [folder for folder in folders if any(launch(folder, int(folder.name)))]
    sys.exit("\n".join((folder / "stderr").read_text()[-4000:] for folder in failed) or None)
