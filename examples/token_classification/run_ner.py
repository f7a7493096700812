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
from from_scratch import build_model, train_tokenizer
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    HfArgumentParser,
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
class DataArguments:
    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the hub."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    train_file: str | None = field(default=None, metadata={"help": "JSON lines."})
    validation_file: str | None = field(default=None, metadata={"help": "JSON lines."})
    test_file: str | None = field(default=None, metadata={"help": "JSON lines; by default the validation data."})
    text_column_name: str = field(default="tokens", metadata={"help": "The column of the words."})
    label_column_name: str = field(default="ner_tags", metadata={"help": "The column of the tags."})
    max_seq_length: int = field(default=128, metadata={"help": "Tokens of a window; longer texts have several."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on so many examples."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Validate and test on so many examples."})
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
    start, checkpoint = experiment.warm_start()
    changes = {"cross_entropy": {"surrogate_start": None}, "surrogate": {}}
    changes |= {arm: {"surrogate": loss(experiment.tags)} for arm, loss in NOT_LEARNED.items()}
    arms = [experiment.arm(arm, checkpoint, **changes[arm]) for arm in ARMS if arm in data_args.loss]
    if args.process_index == 0:
        experiment.write_results(start, arms)
        figure = plot_by_type({row["arm"]: row["by_type"] for row in (start, *arms)})
        (experiment.out / "precision_and_recall.png").write_bytes(to_png(figure))
        common.print_table([start, *arms], [*_SCORES, "f1_validation"])


def make_experiment(
    model_args: ModelArguments, data_args: DataArguments, args: ReLossTrainingArguments
) -> "Experiment":
    set_seed(args.seed)
    raw = read_data(data_args)
    # The surrogate is learned from the slice, and both arms are trained on the other training data.
    parts = raw["train"].train_test_split(args.surrogate_held_out_share, seed=args.seed)
    raw["train"], raw["surrogate"] = parts["train"], parts["test"]
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
    raw = common.read_splits(data_args, cldr_corpus.load)
    if "validation" not in raw:
        raise ValueError(f"the data set has {list(raw)}, and no validation data: pass --validation_file")
    columns = {data_args.text_column_name: "tokens", data_args.label_column_name: "ner_tags"}
    missing = [name for name in columns if name not in raw["train"].column_names]
    if missing:
        raise ValueError(f"the columns {missing} are none of {raw['train'].column_names}: pass --text_column_name and "
                         "--label_column_name")  # fmt: skip
    raw = raw.rename_columns({old: new for old, new in columns.items() if old != new})
    common.limit_samples(raw, data_args)
    return datasets.DatasetDict({split: raw[split] for split in ("train", "validation", "test")})


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
    parser = HfArgumentParser((ModelArguments, DataArguments, ReLossTrainingArguments, *more))
    parser.set_defaults(
        **common.DEFAULTS | {"warmup_steps": 50},
        output_dir="out/token_classification",
        num_train_epochs=10,
        learning_rate=1e-3,
        surrogate_held_out_share=0.2,  # for small data sets; the trainer's default is for large ones
    )
    return parser.parse_args_into_dataclasses()


if __name__ == "__main__":
    main()
