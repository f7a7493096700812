"""Data, models and warm starts of the benchmark of readers that abstain."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import torch
from classifiers import BF16, arguments, encoder_folder, read_rows
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoTokenizer,
    BertForQuestionAnswering,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    TrainingArguments,
)
from warm_starts import CONSTANT_RATE, stored_start, with_two_rates

from reloss_hf import prepare_features, squad_compute_metrics
from reloss_hf.tasks.question_answering.preparation import GoldSpansCollator
from reloss_hf.tasks.question_answering.task import QuestionAnsweringTask

UNANSWERABLE = 1 / 3
# Questions of each part. All questions about a passage are in one part, and longer passages are left out to save time.
SIZES = {"rest": 6_000, "held_out": 500, "validation": 600, "test": 1_000}
_WORDS = 110
EPOCHS = 4  # of the warm start, at most; it ends before where validation no longer rises
BATCH, LEARNING_RATE, HEAD_LEARNING_RATE = 16, 1e-4, 1e-3
_INPUTS = ("input_ids", "token_type_ids", "attention_mask")
_LONGEST, _STRIDE = 192, 64


@dataclass
class Part:
    """Questions, and their windows."""

    questions: datasets.Dataset
    windows: datasets.Dataset


@dataclass
class Data:
    """Attributes:
    rest: what is trained on.
    held_out: what losses are learned from.
    """

    rest: Part
    held_out: Part
    validation: Part
    test: Part
    tokenizer: object
    bf16: bool = BF16

    @property
    def collate(self) -> Callable:
        return GoldSpansCollator(DataCollatorWithPadding(self.tokenizer))

    def new_model(self) -> PreTrainedModel:
        return BertForQuestionAnswering.from_pretrained(
            encoder_folder(), attn_implementation="eager", attention_probs_dropout_prob=0.0
        )


def load_questions(shared: Path, most: int | None = None) -> Data:
    """SQuADShifts, the same questions for every seed. A third of each part has no answer.

    Args:
        most: questions of each part, for a quick look; None for all.
    """
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder())
    rows = {split: read_rows(shared / "squadshifts" / f"{split}.jsonl.gz") for split in ("train", "validation")}
    train, test = ([row for row in part if len(row["context"].split()) <= _WORDS] for part in rows.values())
    splits = by_passage(train, ("held_out", "validation", "rest")) | {"test": by_passage(test, ("test",))["test"]}
    parts = {}
    for name, rows in splits.items():
        rows = without_answers(rows[: min(SIZES[name], most or SIZES[name])])
        questions = datasets.Dataset.from_list(rows)
        windows = prepare_features(questions, tokenizer, _LONGEST, _STRIDE)
        parts[name] = Part(questions, windows.map(lambda row: {"length": len(row["input_ids"])}))
    return Data(**parts, tokenizer=tokenizer)


def by_passage(rows: list[dict], names: tuple[str, ...]) -> dict[str, list[dict]]:
    """The rows in parts of about the sizes above. Each passage is in one part."""
    passages = sorted({row["context"] for row in rows})
    random.Random(0).shuffle(passages)
    of_passage: dict[str, list[dict]] = {passage: [] for passage in passages}
    for row in rows:
        of_passage[row["context"]].append(row)
    parts, left = {}, list(of_passage.values())
    for name in names:
        parts[name] = []
        while left and len(parts[name]) < SIZES[name]:
            parts[name] += left.pop()
        random.Random(0).shuffle(parts[name])
    return parts


def without_answers(rows: list[dict]) -> list[dict]:
    """The rows, of which a third has another passage of the same source and part, which does not hold the answer."""
    draw, passages = random.Random(0), {}
    for row in rows:
        passages.setdefault(row["title"], set()).add(row["context"])
    changed = []
    for row in rows:
        texts = [text.lower() for text in row["answers"]["text"]]
        others = sorted(passages[row["title"]] - {row["context"]})
        others = [passage for passage in others if not any(text in passage.lower() for text in texts)]
        if others and draw.random() < UNANSWERABLE:
            row = row | {"context": draw.choice(others), "answers": {"text": [], "answer_start": []}}
        changed.append(row)
    return changed


def optimizer_of(model: PreTrainedModel, factor: float = 1.0) -> torch.optim.Optimizer:
    return with_two_rates(model, "qa_outputs.", factor * LEARNING_RATE, factor * HEAD_LEARNING_RATE)


def settings(folder: Path, data: Data, **changes) -> dict:
    """Training arguments that all runs have in common."""
    lengths = SimpleNamespace(rest=data.rest.windows, bf16=data.bf16)
    return arguments(folder, lengths, per_device_train_batch_size=BATCH, **changes)


@torch.no_grad()
def predict(model: PreTrainedModel, part: Part, data: Data, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """The logits of starts and of ends of all windows, in their order."""
    model.eval()
    order = np.argsort(part.windows["length"], kind="stable")
    rows, found = part.windows.select_columns(list(_INPUTS)), []
    for start in range(0, len(order), size):
        inputs = data.tokenizer.pad([rows[int(row)] for row in order[start : start + size]], return_tensors="pt")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=data.bf16):
            output = model(**inputs)
        found += zip(output.start_logits.float(), output.end_logits.float(), strict=True)
    found = [found[place] for place in np.argsort(order, kind="stable")]
    return tuple(pad_sequence(list(logits), True, -torch.inf).numpy() for logits in zip(*found, strict=True))


def scores(logits: tuple[np.ndarray, np.ndarray], part: Part, threshold: float = 0.0) -> dict[str, float]:
    """F1, exact match and F1 by kind of question, and the best threshold."""
    judge = squad_compute_metrics(part.questions, part.windows, "squad_v2", null_threshold=threshold)
    result = judge(EvalPrediction(logits, label_ids=None))
    names = {"f1": "f1", "exact": "exact", "answer": "HasAns_f1", "no_answer": "NoAns_f1", "best": "best_f1_thresh"}
    return {name: round(float(result[key]), 3) for name, key in names.items()}


@torch.no_grad()
def features_of(model: PreTrainedModel, part: Part, data: Data, size: int = BATCH) -> list[dict]:
    """The features that losses read, in batches."""
    model.eval()
    task, columns = QuestionAnsweringTask(model, data.tokenizer), [*_INPUTS, *QuestionAnsweringTask.columns]
    rows, found = part.windows.select_columns([*columns, *QuestionAnsweringTask.labels]), []
    for start in range(0, len(rows), size):
        inputs = data.collate([rows[row] for row in range(start, min(start + size, len(rows)))])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=data.bf16):
            outputs = model(**{name: inputs[name] for name in _INPUTS})
        found.append(task.features(model, outputs, inputs, ()))
    return found


def warm_start(data: Data, seed: int, folder: Path, epochs: int = EPOCHS) -> dict:
    """A reader trained with cross-entropy at a constant rate until F1 on validation no longer rises, and its features
    of the slice; trained where it is not stored in `folder`."""

    def measured(model: PreTrainedModel) -> dict:
        parts = {name: getattr(data, name) for name in ("validation", "test")}
        found = {name: scores(predict(model, part, data), part) for name, part in parts.items()}
        return found | {"held_out": features_of(model, data.held_out, data)}

    changes = {"num_train_epochs": epochs, "eval_strategy": "epoch"} | CONSTANT_RATE
    return stored_start(
        folder / f"squadshifts-{seed}.pt",
        data.new_model,
        TrainingArguments(**settings(folder, data, seed=seed, **changes)),
        optimizer_of,
        measured,
        score=lambda model: scores(predict(model, data.validation, data), data.validation)["f1"],
        train_dataset=data.rest.windows,
        eval_dataset=data.validation.windows,
        data_collator=data.collate,
    )
