"""Fine-tune a tagger on cross-entropy and on a learned surrogate of entity F1, from one warm start.

    python examples/token_classification/run_ner.py       # entities of its own corpus, a few minutes on two cores
    python examples/token_classification/run_ner.py --model_name_or_path google-bert/bert-base-cased \
        --train_file train.jsonl --validation_file validation.jsonl --num_train_epochs 3 --learning_rate 2e-5

The files have the columns `tokens` and `ner_tags` (names, or numbers that the data set declares). Both arms continue
the same warm start on the same data. A slice is left out of that data, and the surrogate is learned from it. The table,
`results.json` and a plot of precision and recall by type go to `--output_dir`.
"""

import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cldr_corpus
import datasets
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    set_seed,
)

from reloss_hf import (
    OutsideWeightedCrossEntropy,
    ReLossTrainer,
    ReLossTrainingArguments,
    TagCosts,
    TagDiceLoss,
    TagFocalLoss,
    TagSoftF1Loss,
    TagWeightedCrossEntropy,
    prepare_tagging_features,
    tag_names,
    tagging_compute_metrics,
)
from reloss_hf.sharing.plots import to_png

sys.path.append(str(Path(__file__).resolve().parents[1]))
import common
from from_scratch import build_model, train_tokenizer
from plots import plot_by_type

# Losses that are not learned, by the number of tags.
NOT_LEARNED = {
    "class_weights": lambda tags: TagWeightedCrossEntropy(power=0.5),
    "o_weight": lambda tags: OutsideWeightedCrossEntropy(),
    "focal": lambda tags: TagFocalLoss(),
    "dice": lambda tags: TagDiceLoss(),
    "soft_f1": lambda tags: TagSoftF1Loss(),
    "as_written": TagCosts,
}
ARMS = ("cross_entropy", *NOT_LEARNED, "surrogate")
_SCORES = ("precision", "recall", "f1")


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A model to fine-tune, on disk or the hub; by default a small one from scratch."},
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "Its tokenizer; by default in the same place."})
    ignore_mismatched_sizes: bool = field(default=False, metadata={"help": "Whether to drop a head of another size."})
    layers: int = field(default=2, metadata={"help": "Layers of a model from scratch."})
    width: int = field(default=96, metadata={"help": "Width of a model from scratch; its feed-forward is twice it."})
    heads: int = field(default=4, metadata={"help": "Attention heads of a model from scratch."})
    vocabulary: int = field(default=1500, metadata={"help": "Tokens of a tokenizer from scratch."})


@dataclass
class DataArguments(common.DataArguments):
    text_column_name: str = field(default="tokens", metadata={"help": "The column of the words."})
    label_column_name: str = field(default="ner_tags", metadata={"help": "The column of the tags."})
    max_seq_length: int = field(default=128, metadata={"help": "Tokens of a window; longer texts have several."})
    metric_options: str | None = field(
        default=None, metadata={"help": 'Settings of seqeval: \'{"scheme": "IOB2", "mode": "strict"}\'.'}
    )
    loss: list[str] = field(
        default_factory=lambda: ["cross_entropy", "surrogate"],
        metadata={"help": "The arms to run.", "choices": ARMS},
    )

    @property
    def options(self) -> dict:
        return json.loads(self.metric_options) if self.metric_options else {}


def main() -> None:
    model_args, data_args, args = parse_arguments()
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    experiment = make_experiment(model_args, data_args, args)
    not_learned = {arm: {"surrogate": loss(experiment.tags)} for arm, loss in NOT_LEARNED.items()}
    rows = experiment.compare(common.arms_of(data_args.loss, "cross_entropy", not_learned))
    if args.process_index == 0:
        figure = plot_by_type({row["arm"]: row["by_type"] for row in rows})
        (experiment.out / "precision_and_recall.png").write_bytes(to_png(figure))
        common.print_table(rows, [*_SCORES, "f1_validation"])


def make_experiment(
    model_args: ModelArguments, data_args: DataArguments, args: ReLossTrainingArguments
) -> "Experiment":
    set_seed(args.seed)
    raw = read_data(data_args)
    common.hold_out(raw, args)
    names = tag_names(raw["train"])
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    if model_args.model_name_or_path is not None:
        source = model_args.tokenizer_name or model_args.model_name_or_path
        tokenizer = AutoTokenizer.from_pretrained(source, add_prefix_space=True)
        model = AutoModelForTokenClassification.from_pretrained(
            model_args.model_name_or_path, ignore_mismatched_sizes=model_args.ignore_mismatched_sizes, **labels
        )
    else:
        tokenizer = train_tokenizer(raw["train"]["tokens"], model_args.vocabulary)
        size = (model_args.layers, model_args.width, model_args.heads, data_args.max_seq_length)
        model = build_model(tokenizer, *size, **labels)
    encoded = datasets.DatasetDict(
        {
            split: prepare_tagging_features(rows, tokenizer, names, data_args.max_seq_length)
            for split, rows in raw.items()
        }
    )
    common.save_initial_model(model, args)
    return Experiment(args, Path(args.output_dir), data_args, encoded, tokenizer, len(names))


def read_data(data_args: DataArguments) -> datasets.DatasetDict:
    """`train`, `validation` and `test`, with the columns `tokens` and `ner_tags`."""
    raw = common.limited(common.read_splits(data_args, cldr_corpus.load), data_args)
    return common.with_columns(raw, data_args, {"text_column_name": "tokens", "label_column_name": "ner_tags"})


@dataclass
class Experiment(common.Experiment):
    data_args: DataArguments
    data: datasets.DatasetDict
    tokenizer: object
    tags: int

    metric = "seqeval"

    def trainer(self, arm: str, model: str | Path, callbacks=None, surrogate=None, **changes) -> ReLossTrainer:
        return ReLossTrainer(
            model=self.load(model),
            args=self.arguments(arm, changes),
            train_dataset=self.data["train"],
            eval_dataset=self.data["validation"],
            surrogate_dataset=self.data["surrogate"],
            processing_class=self.tokenizer,
            metric="seqeval",
            metric_options=self.data_args.options,
            surrogate=surrogate,
            callbacks=callbacks,
        )

    def load(self, folder: str | Path) -> PreTrainedModel:
        return AutoModelForTokenClassification.from_pretrained(folder, attn_implementation=self.attention)

    def score(self, folder: str | Path) -> dict:
        """Precision, recall and F1 of a saved model, over all entities and by type."""
        model = self.load(folder)
        test, validation = (self.measure(model, split) for split in ("test", "validation"))
        scores = {name: round(test[f"test_overall_{name}"], 4) for name in _SCORES}
        scores["f1_validation"] = round(validation["validation_overall_f1"], 4)
        kinds = sorted({name.partition("-")[2] for name in model.config.id2label.values()} - {""})
        scores["by_type"] = {
            kind: {name: round(test[f"test_{kind}_{name}"], 4) for name in (*_SCORES, "number")}
            for kind in kinds
            if f"test_{kind}_f1" in test
        }
        return scores

    def validation_score(self, model: PreTrainedModel) -> float:
        return self.measure(model, "validation")["validation_overall_f1"]

    def measure(self, model: PreTrainedModel, split: str) -> dict[str, float]:
        trainer = ReLossTrainer(
            model,
            self.arguments("scores", {"surrogate_start": None}),
            processing_class=self.tokenizer,
            compute_metrics=tagging_compute_metrics(model, self.data[split], **self.data_args.options),
        )
        return trainer.evaluate(self.data[split], metric_key_prefix=split)


def parse_arguments(*more: type) -> tuple:
    """`ModelArguments`, `DataArguments`, `ReLossTrainingArguments`, and the arguments of more data classes."""
    return common.parse(
        ModelArguments,
        DataArguments,
        ReLossTrainingArguments,
        *more,
        warmup_steps=50,
        output_dir="out/token_classification",
        num_train_epochs=10,
        learning_rate=1e-3,
        surrogate_held_out_share=0.2,  # for small data sets; the trainer's default is for large ones
    )


if __name__ == "__main__":
    main()
