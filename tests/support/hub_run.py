"""Processes of the runs in `test_hub.py`: `train` teaches, pushes and measures; `pull` pulls, measures, and fails."""

import json
import sys
from pathlib import Path

from stand_in_hub import TOKEN
from toy_training import LastTokensSurrogate, last_word_accuracy, learning_less
from toy_translation import build_toy_model, make_tokenizer, make_toy_data
from transformers import AutoModelForSeq2SeqLM, DataCollatorForSeq2Seq

from reloss_hf import NgramSurrogate, ReLossSeq2SeqTrainer, ReLossSeq2SeqTrainingArguments, SurrogateLoss

tokenizer = make_tokenizer()
collate = DataCollatorForSeq2Seq(tokenizer)
data = make_toy_data(tokenizer, 1600)


def make_trainer(folder, model, surrogate=None, **arguments):
    trainer = ReLossSeq2SeqTrainer(
        model=model,
        args=ReLossSeq2SeqTrainingArguments(
            str(folder), report_to="none", use_cpu=True, disable_tqdm=True, surrogate_group_size=4, **arguments
        ),
        train_dataset=data,
        processing_class=tokenizer,
        data_collator=collate,
        metric=None if surrogate else last_word_accuracy,
        surrogate=surrogate,
    )
    return learning_less(trainer)


def measure(trainer):
    """The exact losses of a few examples."""
    trainer.model.eval()
    return [trainer.compute_loss(trainer.model, collate([data[i]])).item().hex() for i in range(8)]


def train(folder):
    trainer = make_trainer(
        folder / "toy", build_toy_model(tokenizer, seed=0), per_device_train_batch_size=32, learning_rate=5e-3,
        max_steps=106, surrogate_start=100, surrogate_snapshots=4, surrogate_snapshot_size=512,
        surrogate_class=LastTokensSurrogate.__name__, save_steps=103,
        push_to_hub=True, hub_model_id="me/toy", hub_token=TOKEN, hub_always_push=True,
    )  # fmt: skip
    trainer.train()
    trainer.push_to_hub()
    trainer.push_surrogate_to_hub("me/reloss-last-word", private=True)
    trainer.push_surrogate_to_hub("me/reloss-last-word", revision="unlearned", commit_message="again")
    return {"losses": measure(trainer), "objection": trainer.surrogate_report.objection}


def load(folder):
    model = AutoModelForSeq2SeqLM.from_pretrained("me/toy")
    results = {}
    for name, arguments in {
        "alone": {"name_or_path": "me/reloss-last-word", "token": TOKEN},
        "with_model": {"name_or_path": "me/toy", "subfolder": "surrogate"},
        "before_the_last": {"name_or_path": "me/toy", "subfolder": "surrogate", "revision": sys.argv[3]},
    }.items():
        surrogate = SurrogateLoss.from_pretrained(**arguments)
        results[name] = measure(make_trainer(folder, model, surrogate, surrogate_start=0))
    return results | {"class": type(surrogate).__name__, "spearman": surrogate.info["spearman"]}


def failures():
    """What is said where the hub refuses, and whether the cut-off upload goes through when repeated."""
    surrogate = NgramSurrogate()

    def message(call, *arguments, **keywords):
        try:
            return call(*arguments, **keywords) and None
        except ValueError as error:
            return str(error)

    pull, name = SurrogateLoss.from_pretrained, "me/reloss-last-word"
    return {
        "cut": message(surrogate.push_to_hub, "me/cut", token=TOKEN),
        "repeated": message(surrogate.push_to_hub, "me/cut", token=TOKEN),
        "pull_without_token": message(pull, name, token=False),
        "pull_wrong_token": message(pull, name, token="hf_wrong"),
        "push_wrong_token": message(surrogate.push_to_hub, name, token="hf_wrong"),
        "no_revision": message(pull, name, token=TOKEN, revision="nonesuch"),
        "no_subfolder": message(pull, name, token=TOKEN, subfolder="surrogate"),
        "no_name": message(pull, "out/surrogate/v1"),
    }


folder = Path(sys.argv[2])
(folder / "facts.json").write_text(json.dumps(train(folder) if sys.argv[1] == "train" else failures() | load(folder)))
