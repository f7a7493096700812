"""Fine-tune a classifier on cross-entropy and on a learned surrogate of a metric, from one warm start.

    python examples/classification/run_classification.py            # languages of names, its own data, a few minutes
    python examples/classification/run_classification.py --image    # handwritten digits, also its own data
    python examples/classification/run_classification.py --model_name_or_path google-bert/bert-base-uncased \
        --train_file train.csv --validation_file validation.csv --text_column_names sentence1,sentence2 \
        --metric_name matthews_correlation --num_train_epochs 3 --learning_rate 2e-5

It takes texts, pairs of texts (two columns) and images, with one label or lists of labels. Both arms continue the same
warm start on the same data. A slice is left out of that data, and the surrogate is learned from it. The table,
`results.json` and a plot of the score by class go to `--output_dir`.
"""

import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
import torch
from sklearn.metrics import f1_score
from torch.utils.data import DataLoader
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    default_data_collator,
    set_seed,
)

from reloss_hf import (
    ClassWeightedCrossEntropy,
    GroupMetric,
    LogitAdjustedCrossEntropy,
    ReLossTrainer,
    ReLossTrainingArguments,
)
from reloss_hf.sharing.plots import to_png

sys.path.append(str(Path(__file__).resolve().parents[1]))
import common
import preparation
from from_scratch import build_image_model, build_text_model, train_tokenizer
from plots import plot_by_class

HAND_MADE = {"class_weights": ClassWeightedCrossEntropy, "logit_adjustment": LogitAdjustedCrossEntropy}
ARMS = ("cross_entropy", *HAND_MADE, "surrogate")


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A model to fine-tune, on disk or the hub; by default a small one from scratch."},
    )
    ignore_mismatched_sizes: bool = field(default=False, metadata={"help": "Whether to drop a head of another size."})
    layers: int = field(default=2, metadata={"help": "Layers of a model from scratch."})
    width: int = field(default=96, metadata={"help": "Width of a model from scratch; its feed-forward is twice it."})
    heads: int = field(default=4, metadata={"help": "Attention heads of a model from scratch."})


@dataclass
class DataArguments(common.DataArguments):
    train_dir: str | None = field(default=None, metadata={"help": "Images, in a folder for each class."})
    validation_dir: str | None = field(default=None, metadata={"help": "Images, in a folder for each class."})
    test_dir: str | None = field(default=None, metadata={"help": "Images by class; by default the validation data."})
    train_val_split: float = field(
        default=0.15, metadata={"help": "The share of the training data that validates, if there is no other data."}
    )
    image: bool = field(
        default=False, metadata={"help": "Classify images instead of texts; without data, handwritten digits."}
    )
    text_column_names: str | None = field(
        default=None,
        metadata={"help": "One column, or two columns of pairs with a comma; by default the first columns of texts."},
    )
    text_column_delimiter: str | None = field(
        default=None, metadata={"help": "Join the columns to one text with this; by default they are a pair."}
    )
    label_column_name: str = field(default="label", metadata={"help": "The column of labels, or lists of labels."})
    image_column_name: str = field(default="image", metadata={"help": "The column of images."})
    max_seq_length: int = field(default=128, metadata={"help": "The longest text in tokens; longer ones are cut."})
    metric_name: str | None = field(
        default=None, metadata={"help": "The metric to learn and judge by, such as accuracy; by default macro F1."}
    )
    metric_options: str | None = field(
        default=None, metadata={"help": 'Settings of the metric: \'{"average": "micro"}\'.'}
    )
    loss: list[str] = field(
        default_factory=lambda: ["cross_entropy", "surrogate"],
        metadata={"help": "The arms to run.", "choices": ARMS},
    )

    @property
    def of_images(self) -> bool:
        return self.image or self.train_dir is not None

    @property
    def metric(self) -> tuple[str, dict]:
        """The name of the metric, and its settings."""
        options = json.loads(self.metric_options) if self.metric_options else {}
        return (self.metric_name, options) if self.metric_name else ("f1", {"average": "macro"} | options)


def main() -> None:
    model_args, data_args, args = parse_arguments()
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    experiment = make_experiment(model_args, data_args, args)
    not_learned = {arm: {"surrogate": loss(experiment.frequencies)} for arm, loss in HAND_MADE.items()}
    rows = experiment.compare(common.arms_of(data_args.loss, "cross_entropy", not_learned))
    if args.process_index == 0:
        experiment.plot(rows)
        common.print_table(rows, ["score", "score_validation"])
        print(f"\nscore: {rows[0]['metric']}")


def make_experiment(
    model_args: ModelArguments, data_args: DataArguments, args: ReLossTrainingArguments
) -> "Experiment":
    set_seed(args.seed)
    raw, labels = preparation.with_labels(preparation.load_data(data_args, args.seed), data_args.label_column_name)
    common.hold_out(raw, args)
    make = image_classifier if data_args.of_images else text_classifier
    model, processing_class, encoded = make(raw, labels, model_args, data_args)
    common.save_initial_model(model, args)
    frequencies = label_table(raw["train"]["labels"][:], len(labels.names)).mean(0).clip(1e-3, 1 - 1e-3).tolist()
    return Experiment(args, Path(args.output_dir), data_args, encoded, processing_class, labels, frequencies)


def text_classifier(raw, labels, model_args, data_args) -> tuple:
    """A model, its tokenizer, and the tokenised data."""
    if model_args.model_name_or_path is not None:
        tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
        model = pretrained(AutoModelForSequenceClassification, labels, model_args)
    else:
        columns = preparation.text_columns(raw["train"], data_args)
        tokenizer = train_tokenizer(text for column in columns for text in raw["train"][column])
        size = (model_args.layers, model_args.width, model_args.heads, data_args.max_seq_length)
        model = build_text_model(tokenizer, *size, **labels.for_model())
    return model, tokenizer, preparation.tokenize(raw, tokenizer, data_args)


def image_classifier(raw, labels, model_args, data_args) -> tuple:
    """A model, its image processor (None for a model from scratch), and the data in pixels."""
    processor, column = None, data_args.image_column_name
    if model_args.model_name_or_path is not None:
        processor = AutoImageProcessor.from_pretrained(model_args.model_name_or_path)
        model = pretrained(AutoModelForImageClassification, labels, model_args)
    else:
        size = (raw["train"][0][column].size[0], 1, model_args.layers, model_args.width, model_args.heads)
        model = build_image_model(*size, **labels.for_model())
    return model, processor, preparation.as_pixels(raw, column, processor)


def pretrained(auto_class, labels, model_args):
    return auto_class.from_pretrained(
        model_args.model_name_or_path,
        ignore_mismatched_sizes=model_args.ignore_mismatched_sizes,
        **labels.for_model(),
    )


@dataclass
class Experiment(common.Experiment):
    data_args: DataArguments
    data: datasets.DatasetDict
    processing_class: object
    labels: preparation.Labels
    frequencies: list[float]

    @property
    def metric(self) -> str:
        return Path(self.data_args.metric[0]).stem

    def trainer(self, arm: str, model: str | Path, callbacks=None, surrogate=None, **changes) -> ReLossTrainer:
        name, options = self.data_args.metric
        return ReLossTrainer(
            model=self.load(model),
            args=self.arguments(arm, {"remove_unused_columns": not self.data_args.of_images, **changes}),
            train_dataset=self.data["train"],
            eval_dataset=self.data["validation"],
            surrogate_dataset=self.data["surrogate"],
            processing_class=self.processing_class,
            data_collator=self.collator,
            metric=name,
            metric_options=options,
            surrogate=surrogate,
            callbacks=callbacks,
        )

    @property
    def collator(self):
        return default_data_collator if self.data_args.of_images else DataCollatorWithPadding(self.processing_class)

    def load(self, folder: str | Path) -> PreTrainedModel:
        auto = AutoModelForImageClassification if self.data_args.of_images else AutoModelForSequenceClassification
        return auto.from_pretrained(folder, attn_implementation=self.attention)

    def score(self, folder: str | Path) -> dict:
        """The metric of a saved model's predictions, and the F1 of each class."""
        model = self.load(folder).to(self.args.device).eval()
        scores = {"metric": " ".join([self.metric, *map(str, self.data_args.metric[1].values())])}
        for split, suffix in (("test", ""), ("validation", "_validation")):
            predictions, references = self.predict(model, split)
            scores[f"score{suffix}"] = round(self.measure(predictions, references), 4)
        predictions, references = self.predict(model, "test")
        classes = len(self.labels.names)
        tables = (label_table(values, classes) for values in (references, predictions))
        scores["f1_by_class"] = f1_score(*tables, average=None, zero_division=0.0).round(4).tolist()
        return scores

    def validation_score(self, model: PreTrainedModel) -> float:
        return self.measure(*self.predict(model, "validation"))

    def measure(self, predictions: list, references: list) -> float:
        name, options = self.data_args.metric
        metric = GroupMetric(name, options=options)
        (score,) = metric(predictions, references, np.arange(len(predictions))[None])
        return float(-score if metric.lower_is_better else score)

    @torch.no_grad()
    def predict(self, model: PreTrainedModel, split: str) -> tuple[list, list]:
        """The predicted labels, those with `p > 0.5` or the class with the highest, and the gold labels."""
        predictions, references = [], []
        for batch in DataLoader(self.data[split], self.args.eval_batch_size, collate_fn=self.collator):
            references += batch.pop("labels").long().tolist()
            logits = model(**{name: value.to(self.args.device) for name, value in batch.items()}).logits
            predictions += ((logits > 0).long() if self.labels.several else logits.argmax(-1)).tolist()
        return predictions, references

    def plot(self, rows: list[dict]) -> None:
        scores = {row["arm"]: row["f1_by_class"] for row in rows}
        counts = [round(share * len(self.data["train"])) for share in self.frequencies]
        figure = plot_by_class(scores, self.labels.names, counts, "F1")
        (self.out / "f1_by_class.png").write_bytes(to_png(figure))


def label_table(labels: list, classes: int) -> np.ndarray:
    """The labels of each example as 0/1, shape `(examples, classes)`."""
    table = np.array(labels)
    return table if table.ndim == 2 else np.eye(classes, dtype=int)[table]


def parse_arguments(*more: type) -> tuple:
    """`ModelArguments`, `DataArguments`, `ReLossTrainingArguments`, and the arguments of more data classes."""
    return common.parse(
        ModelArguments,
        DataArguments,
        ReLossTrainingArguments,
        *more,
        warmup_steps=50,
        output_dir="out/classification",
        num_train_epochs=20,
        learning_rate=1e-3,
        surrogate_held_out_share=0.3,  # for small data sets; the trainer's default is for large ones
    )


if __name__ == "__main__":
    main()
