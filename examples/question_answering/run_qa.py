"""Fine-tune a question-answering model on cross-entropy, on the expected F1 and on a learned surrogate of SQuAD F1.

    python examples/question_answering/run_qa.py                         # a small corpus of its own, a few minutes
    python examples/question_answering/run_qa.py --version_2_with_negative --output_dir out/abstaining
    python examples/question_answering/run_qa.py --model_name_or_path path/to/encoder \
        --train_file train.jsonl --test_file test.jsonl --max_seq_length 192 --num_train_epochs 2

All arms continue the same warm start, with the same schedule, batches and number of updates. The table, `results.json`
and a plot of both losses against F1 go to `--output_dir`.

With `--version_2_with_negative` a third of the questions of the own corpus has no answer. The surrogate then learns
when to abstain, from a slice of the training data that no arm is trained on. The table also has the F1 of the questions
with and without an answer, and the F1 with the threshold that is best on validation.
"""

import logging
import random
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import cldr_corpus
import datasets
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from reloss_hf import (
    ExpectedF1Loss,
    ReLossTrainer,
    ReLossTrainingArguments,
    prepare_features,
    squad_compute_metrics,
)

sys.path.append(str(Path(__file__).resolve().parents[1]))
import common
from from_scratch import build_model, train_tokenizer

NOT_LEARNED = {"expected_f1": ExpectedF1Loss}
ARMS = ("cross_entropy", *NOT_LEARNED, "surrogate")


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A model to fine-tune, on disk or the hub; by default a small one from scratch."},
    )
    vocab_size: int = field(default=4000, metadata={"help": "Vocabulary size of a tokenizer from scratch."})
    layers: int = field(default=3, metadata={"help": "Layers of a model from scratch."})
    width: int = field(default=96, metadata={"help": "Width of a model from scratch; its feed-forward is twice it."})
    heads: int = field(default=4, metadata={"help": "Attention heads of a model from scratch."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout of a model from scratch."})


@dataclass
class DataArguments(common.DataArguments):
    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the hub, in the schema of squad."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    validation_file: str | None = field(
        default=None,
        metadata={"help": "JSON lines; by default a tenth of the training contexts, which are not trained on then."},
    )
    version_2_with_negative: bool = field(default=False, metadata={"help": "Whether some questions have no answer."})
    null_score_diff_threshold: float = field(
        default=0.0, metadata={"help": "Give no answer if the null score exceeds that of the best answer by more."}
    )
    max_seq_length: int = field(default=192, metadata={"help": "Tokens of a window of question and context."})
    doc_stride: int = field(default=32, metadata={"help": "Tokens that windows of one context share."})
    n_best_size: int = field(default=20, metadata={"help": "How many starts and ends of a window are combined."})
    max_answer_length: int = field(default=30, metadata={"help": "The longest answer, in tokens."})
    loss: list[str] = field(default_factory=lambda: list(ARMS), metadata={"help": "The arms to run.", "choices": ARMS})

    @property
    def metric(self) -> str:
        return "squad_v2" if self.version_2_with_negative else "squad"


def main() -> None:
    model_args, data_args, args = parse_arguments()
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    experiment = make_experiment(model_args, data_args, args)
    not_learned = {arm: {"surrogate": loss(data_args.max_answer_length)} for arm, loss in NOT_LEARNED.items()}
    rows = experiment.compare(common.arms_of(data_args.loss, "cross_entropy", not_learned))
    if args.process_index == 0:
        kinds = ["f1_tuned", "f1_answer", "f1_no_answer"] if data_args.version_2_with_negative else []
        common.print_table(rows, ["f1", *kinds, "exact_match", "f1_validation", "exact_match_validation"])


def make_experiment(
    model_args: ModelArguments, data_args: DataArguments, args: ReLossTrainingArguments
) -> "Experiment":
    set_seed(args.seed)
    if data_args.dataset_name is None and data_args.train_file is None and not data_args.version_2_with_negative:
        # The example's own questions have one gold answer each, so AnswersSurrogate has nothing to learn from.
        args.surrogate_class = args.surrogate_class or "SharpenedF1Surrogate"
    raw = load_data(data_args)
    if data_args.version_2_with_negative:
        raw["train"], raw["surrogate"] = split_by_context(raw["train"], args.surrogate_held_out_share)
    model, tokenizer = load_model(model_args, data_args, raw["train"])
    features = datasets.DatasetDict(
        {
            split: prepare_features(rows, tokenizer, data_args.max_seq_length, data_args.doc_stride)
            for split, rows in raw.items()
        }
    )
    common.save_initial_model(model, args)
    return Experiment(args, Path(args.output_dir), data_args, raw, features, tokenizer)


@dataclass
class Experiment(common.Experiment):
    data_args: DataArguments
    raw: datasets.DatasetDict
    features: datasets.DatasetDict
    tokenizer: PreTrainedTokenizerBase

    metric: ClassVar[str] = "F1"

    def trainer(self, arm: str, model: str | Path, callbacks=None, surrogate=None, **changes) -> ReLossTrainer:
        return ReLossTrainer(
            model=self.load(model),
            args=self.arguments(arm, changes),
            train_dataset=self.features["train"],
            eval_dataset=self.features["validation"],
            surrogate_dataset=self.features.get("surrogate"),
            processing_class=self.tokenizer,
            metric=self.data_args.metric,
            surrogate=surrogate,
            callbacks=callbacks,
        )

    def load(self, folder: str | Path) -> PreTrainedModel:
        return AutoModelForQuestionAnswering.from_pretrained(folder, attn_implementation=self.attention)

    def score(self, folder: str | Path) -> dict:
        """F1 and exact match of a saved model's answers."""
        model = self.load(folder).to(self.args.device).eval()
        abstains = self.data_args.version_2_with_negative
        scores, found = {}, {}
        for split, suffix in (("test", ""), ("validation", "_validation")):
            found[split] = result = self.squad_scores(self.logits(model, split), split)
            scores[f"f1{suffix}"] = round(result["f1"], 2)
            scores[f"exact_match{suffix}"] = round(result["exact" if abstains else "exact_match"], 2)
        if abstains:
            tuned = self.squad_scores(self.logits(model, "test"), "test", found["validation"]["best_f1_thresh"])
            kinds = {"f1_answer": found["test"].get("HasAns_f1"), "f1_no_answer": found["test"].get("NoAns_f1")}
            scores |= {name: score and round(score, 2) for name, score in (kinds | {"f1_tuned": tuned["f1"]}).items()}
        return scores

    def validation_score(self, model: PreTrainedModel) -> float:
        return self.squad_scores(self.logits(model, "validation"), "validation")["f1"]

    @torch.no_grad()
    def logits(self, model: PreTrainedModel, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The logits of starts and of ends of all windows."""
        windows = self.features[split]
        inputs = windows.select_columns([n for n in self.tokenizer.model_input_names if n in windows.column_names])
        starts, ends = [], []
        for batch in DataLoader(inputs, self.args.eval_batch_size, collate_fn=DataCollatorWithPadding(self.tokenizer)):
            with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
                output = model(**batch.to(self.args.device))
            starts += output.start_logits.float().cpu()
            ends += output.end_logits.float().cpu()
        return tuple(pad_sequence(rows, True, -torch.inf).numpy() for rows in (starts, ends))

    def squad_scores(self, logits: tuple[np.ndarray, np.ndarray], split: str, threshold: float | None = None) -> dict:
        compute_metrics = squad_compute_metrics(
            self.raw[split],
            self.features[split],
            self.data_args.metric,
            null_threshold=self.data_args.null_score_diff_threshold if threshold is None else threshold,
            n_best=self.data_args.n_best_size,
            max_answer_length=self.data_args.max_answer_length,
        )
        return compute_metrics(EvalPrediction(logits, label_ids=None))


def parse_arguments(*more: type) -> tuple:
    """`ModelArguments`, `DataArguments`, `ReLossTrainingArguments`, and the arguments of more data classes."""
    return common.parse(
        ModelArguments,
        DataArguments,
        ReLossTrainingArguments,
        *more,
        output_dir="out/question_answering",
        num_train_epochs=4,
        learning_rate=1e-3,
    )


def load_data(data_args: DataArguments) -> datasets.DatasetDict:
    """`train`, `validation` and `test`."""
    corpus = partial(cldr_corpus.load, unanswerable=1 / 3) if data_args.version_2_with_negative else cldr_corpus.load
    raw = common.read_splits(data_args, corpus)
    if "validation" not in raw:
        raw["train"], raw["validation"] = split_by_context(raw["train"], 0.1)
    return common.limited(raw, data_args)


def split_by_context(rows: datasets.Dataset, share: float) -> tuple[datasets.Dataset, datasets.Dataset]:
    """The rows, split by context: the rest, and a share of the contexts. The split is always the same."""
    contexts = sorted(set(rows["context"]))
    held_out = set(random.Random(0).sample(contexts, round(share * len(contexts))))
    inside = [context in held_out for context in rows["context"]]
    return tuple(rows.select([row for row, out in enumerate(inside) if out is wanted]) for wanted in (False, True))


def load_model(model_args: ModelArguments, data_args: DataArguments, train: datasets.Dataset):
    if model_args.model_name_or_path is not None:
        tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
        return AutoModelForQuestionAnswering.from_pretrained(model_args.model_name_or_path), tokenizer
    texts = (row[column] for row in train.select_columns(["question", "context"]) for column in row)
    tokenizer = train_tokenizer(texts, model_args.vocab_size)
    size = (model_args.layers, model_args.width, model_args.heads, model_args.dropout)
    return build_model(tokenizer, *size, data_args.max_seq_length), tokenizer


if __name__ == "__main__":
    main()
