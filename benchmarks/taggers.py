"""Data, models and warm starts of the benchmark of taggers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from classifiers import BF16, arguments, encoder_folder, read_rows
from transformers import (
    AutoTokenizer,
    BertForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
)
from warm_starts import CONSTANT_RATE, stored_start, with_two_rates

from reloss_hf import prepare_tagging_features, tag_names
from reloss_hf.tasks.token_classification.metrics import SeqevalMetric

# The training sentences that are read, the first of them; None for all.
DATA = {"wnut17": None, "ncbi_disease": 2700}
# Of the shuffled training sentences: the first are held out to learn losses from, the others trained on.
HELD_OUT_SHARE = 0.2
EPOCHS = 12  # of the warm start, at most; it ends before where validation no longer rises
LEARNING_RATE, HEAD_LEARNING_RATE = 1e-4, 1e-3
_METRIC = SeqevalMetric()
_JUDGED = ("validation", "test")


@dataclass
class Data:
    """Attributes:
    rest: what is trained on.
    held_out: training sentences that are not trained on, for learning.
    names: of the tags.
    """

    rest: datasets.Dataset
    held_out: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset
    names: list[str]
    collate: Callable
    bf16: bool = BF16

    def new_model(self) -> PreTrainedModel:
        return BertForTokenClassification.from_pretrained(
            encoder_folder(),
            id2label=dict(enumerate(self.names)),
            label2id={name: number for number, name in enumerate(self.names)},
            attn_implementation="eager",  # faster on short sentences than the fused kernel
        )


def load_sentences(name: str, shared: Path, most: int | None = None) -> Data:
    """Tokenised sentences; the same training examples and the same slice for every seed.

    Args:
        most: sentences of each split, the first of them; None for as many as `DATA` says.
    """
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder())
    rows = {split: read_rows(shared / name / f"{split}.jsonl.gz")[:most] for split in ("train", "validation", "test")}
    rows["train"] = rows["train"][: DATA[name]]
    splits = {split: datasets.Dataset.from_list(_with_tokens(found, tokenizer)) for split, found in rows.items()}
    names = tag_names(splits["train"])
    parts = {split: prepare_tagging_features(found, tokenizer, names) for split, found in splits.items()}
    parts = {split: part.map(lambda row: {"length": len(row["input_ids"])}) for split, part in parts.items()}
    order = np.random.RandomState(0).permutation(len(parts["train"]))
    held_out = round(HELD_OUT_SHARE * len(order))
    return Data(
        rest=parts["train"].select(order[held_out:]),
        held_out=parts["train"].select(order[:held_out]),
        validation=parts["validation"],
        test=parts["test"],
        names=names,
        collate=DataCollatorForTokenClassification(tokenizer),
    )


def optimizer_of(model: PreTrainedModel, factor: float = 1.0) -> torch.optim.Optimizer:
    return with_two_rates(model, "classifier.", factor * LEARNING_RATE, factor * HEAD_LEARNING_RATE)


@torch.no_grad()
def predict(model: PreTrainedModel, part: datasets.Dataset, collate: Callable, size: int = 64) -> list[dict]:
    """The features of each batch of sentences of about one length: `logits` and `labels`."""
    model.eval()
    order = np.argsort(part["length"], kind="stable")
    rows, found = part.select_columns(["input_ids", "labels"]), []
    for start in range(0, len(order), size):
        inputs = collate([rows[int(row)] for row in order[start : start + size]])
        labels = inputs.pop("labels")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=BF16):
            found.append({"logits": model(**inputs).logits.float(), "labels": labels})
    return found


def scores(features: list[dict], names: list[str]) -> dict[str, float]:
    """F1, precision and recall of entities, times 100."""
    predictions, references = [], []
    for batch in features:
        for ids, gold in zip(batch["logits"].argmax(-1), batch["labels"], strict=True):
            known = gold != -100
            predictions.append([names[tag] for tag in ids[known].tolist()])
            references.append([names[tag] for tag in gold[known].tolist()])
    result = _METRIC(predictions, references)
    return {name: round(100 * float(result[f"overall_{name}"]), 3) for name in ("f1", "precision", "recall")}


def warm_start(name: str, data: Data, seed: int, folder: Path) -> dict:
    """A tagger trained with cross-entropy at a constant rate until F1 on validation no longer rises, and its features
    of the slice; trained where it is not stored in `folder`."""

    def measured(model: PreTrainedModel) -> dict:
        found = {part: scores(predict(model, getattr(data, part), data.collate), data.names) for part in _JUDGED}
        return found | {"held_out": predict(model, data.held_out, data.collate)}

    changes = {"num_train_epochs": EPOCHS, "eval_strategy": "epoch"} | CONSTANT_RATE
    return stored_start(
        folder / f"{name}-{seed}.pt",
        data.new_model,
        TrainingArguments(**arguments(folder, data, seed=seed, **changes)),
        optimizer_of,
        measured,
        score=lambda model: scores(predict(model, data.validation, data.collate), data.names)["f1"],
        patience=2,
        train_dataset=data.rest,
        eval_dataset=data.validation,
        data_collator=data.collate,
    )


def _with_tokens(rows: list[dict], tokenizer: PreTrainedTokenizerBase) -> list[dict]:
    """Words without a token, such as a lone variation selector, become the unknown token."""

    def word(text: str) -> str:
        return text if tokenizer.tokenize(text) else tokenizer.unk_token

    return [row | {"tokens": [word(text) for text in row["tokens"]]} for row in rows]
