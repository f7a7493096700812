"""Fine-tune a translation model on cross-entropy and on a learned surrogate of BLEU, from one warm start.

    python examples/translation/run_translation.py                       # a small corpus of its own, a few minutes
    python examples/translation/run_translation.py --from_scratch \
        --train_file train.json --validation_file validation.json --test_file test.json \
        --source_lang en --target_lang de --num_train_epochs 20 --surrogate_start 0.8

Both arms continue the same warm start, with the same schedule, batches and number of updates: one on cross-entropy,
one on the surrogate. The table, `results.json` and a plot of both losses against BLEU go to `--output_dir`.
"""

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import cldr_corpus
import datasets
import torch
from from_scratch import build_model, train_tokenizer
from sacrebleu.metrics import BLEU
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from reloss_hf import ReLossSeq2SeqTrainer, ReLossSeq2SeqTrainingArguments

sys.path.append(str(Path(__file__).resolve().parents[1]))
import common

ARMS = ("cross_entropy", "surrogate")


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(default=None, metadata={"help": "A model to fine-tune, on disk or the hub."})
    from_scratch: bool = field(
        default=False, metadata={"help": "Train a Marian model and a joint BPE tokenizer on the training file instead."}
    )
    vocab_size: int = field(default=1500, metadata={"help": "Vocabulary size of a tokenizer from scratch."})
    layers: int = field(default=2, metadata={"help": "Layers of the encoder and of the decoder from scratch."})
    width: int = field(default=128, metadata={"help": "Width of a model from scratch; its feed-forward is 8/3 of it."})
    heads: int = field(default=4, metadata={"help": "Attention heads of a model from scratch."})
    dropout: float = field(default=0.1, metadata={"help": "From scratch."})


@dataclass
class DataArguments(common.DataArguments):
    source_lang: str = field(default="en", metadata={"help": "Key of the source in 'translation'."})
    target_lang: str = field(default="de", metadata={"help": "Key of the target."})
    source_prefix: str = field(default="", metadata={"help": "A prefix for every source text (T5)."})
    max_source_length: int = field(default=128, metadata={"help": "The longest source in tokens; longer ones are cut."})
    max_target_length: int = field(default=128, metadata={"help": "The longest target in tokens; longer ones are cut."})
    num_beams: int = field(default=5, metadata={"help": "Beams of the beam search in the table."})
    surrogate_slice: int = field(
        default=0,
        metadata={"help": "Hold so many training examples out of both arms, for --surrogate_predictions generate."},
    )


def main() -> None:
    model_args, data_args, args = parse_arguments()
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    experiment = make_experiment(model_args, data_args, args)
    rows = experiment.compare(common.arms_of(ARMS, "cross_entropy", {}))
    if args.process_index == 0:
        common.print_table(rows, [name for name in rows[0] if name.startswith("bleu_")])
        print(f"\nsacreBLEU {rows[0]['signature']}")


def make_experiment(
    model_args: ModelArguments, data_args: DataArguments, args: ReLossSeq2SeqTrainingArguments
) -> "Experiment":
    set_seed(args.seed)
    raw = load_data(data_args)
    model, tokenizer = load_model(model_args, data_args, raw["train"])
    tokenized = tokenize(raw, tokenizer, data_args)
    common.save_initial_model(model, args)
    return Experiment(args, Path(args.output_dir), data_args, raw, tokenized, tokenizer)


@dataclass
class Experiment(common.Experiment):
    data_args: DataArguments
    raw: datasets.DatasetDict
    tokenized: datasets.DatasetDict
    tokenizer: PreTrainedTokenizerBase

    metric: ClassVar[str] = "BLEU"

    def trainer(
        self,
        arm: str,
        model: str | Path,
        callbacks=None,
        surrogate=None,
        cls=ReLossSeq2SeqTrainer,
        metric="sacrebleu",
        **changes,
    ) -> ReLossSeq2SeqTrainer:
        model = self.load(model)
        return cls(
            model=model,
            args=self.arguments(arm, changes),
            train_dataset=self.tokenized["train"],
            eval_dataset=self.tokenized["validation"],
            surrogate_dataset=self.tokenized.get("surrogate"),
            processing_class=self.tokenizer,
            data_collator=DataCollatorForSeq2Seq(self.tokenizer, model=model),
            metric=metric,
            surrogate=surrogate,
            callbacks=callbacks,
        )

    def load(self, folder: str | Path) -> PreTrainedModel:
        return AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation=self.attention)

    def score(self, folder: str | Path) -> dict:
        """Cased sacreBLEU of a saved model's translations, its signature, and the lowercased BLEU. Writes the
        translations beside the model."""
        model = self.load(folder).to(self.args.device).eval()
        scores = {}
        for split, suffix in (("test", ""), ("validation", "_validation")):
            for beams, name in ((1, "greedy"), (self.data_args.num_beams, f"beam{self.data_args.num_beams}")):
                hypotheses = self.translate(model, split, beams)
                (Path(folder) / f"{split}_{name}.txt").write_text("".join(f"{text}\n" for text in hypotheses))
                for case, metric in (("", BLEU()), ("lowercased_", BLEU(lowercase=True))):
                    score = metric.corpus_score(hypotheses, [self.references(split)])
                    scores[f"{case}bleu_{name}{suffix}"] = round(score.score, 2)
                    scores[f"{case}signature"] = str(metric.get_signature())
        return scores

    def validation_score(self, model: PreTrainedModel) -> float:
        return BLEU().corpus_score(self.translate(model, "validation"), [self.references("validation")]).score

    @torch.no_grad()
    def translate(self, model: PreTrainedModel, split: str, beams: int = 1) -> list[str]:
        collate = DataCollatorForSeq2Seq(self.tokenizer, model=model)
        hypotheses = []
        for batch in DataLoader(self.tokenized[split], self.args.eval_batch_size, collate_fn=collate):
            inputs = {key: batch[key].to(self.args.device) for key in ("input_ids", "attention_mask")}
            output = model.generate(**inputs, num_beams=beams, max_length=self.data_args.max_target_length + 1)
            hypotheses += self.tokenizer.batch_decode(output, skip_special_tokens=True)
        return [text.strip() for text in hypotheses]

    def references(self, split: str) -> list[str]:
        return [pair[self.data_args.target_lang] for pair in self.raw[split]["translation"]]


def parse_arguments(*more: type) -> tuple:
    """`ModelArguments`, `DataArguments`, `ReLossSeq2SeqTrainingArguments`, and the arguments of more data classes."""
    return common.parse(
        ModelArguments,
        DataArguments,
        ReLossSeq2SeqTrainingArguments,
        *more,
        output_dir="out/translation",
        predict_with_generate=True,
        num_train_epochs=14,
        surrogate_start=0.85,
        learning_rate=2e-3,
        label_smoothing_factor=0.1,
    )


def load_data(data_args: DataArguments) -> datasets.DatasetDict:
    """`train`, `validation` and `test`, and also `surrogate` if a slice of `train` is held out for it."""
    raw = common.limited(common.read_splits(data_args, cldr_corpus.load), data_args)
    if data_args.surrogate_slice:
        rows = len(raw["train"])
        raw["surrogate"] = raw["train"].select(range(rows - data_args.surrogate_slice, rows))
        raw["train"] = raw["train"].select(range(rows - data_args.surrogate_slice))
    return raw


def load_model(model_args: ModelArguments, data_args: DataArguments, train: datasets.Dataset):
    if model_args.model_name_or_path is not None:
        tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
        return AutoModelForSeq2SeqLM.from_pretrained(model_args.model_name_or_path), tokenizer
    if not model_args.from_scratch and data_args.train_file is not None:
        raise ValueError("pass --model_name_or_path, or --from_scratch to train a small model from nothing")
    pairs = train["translation"]
    texts = (pair[language] for pair in pairs for language in (data_args.source_lang, data_args.target_lang))
    tokenizer = train_tokenizer(texts, model_args.vocab_size)
    size = (model_args.layers, model_args.width, model_args.heads, model_args.dropout)
    return build_model(tokenizer, *size), tokenizer


def tokenize(
    raw: datasets.DatasetDict, tokenizer: PreTrainedTokenizerBase, data_args: DataArguments
) -> datasets.DatasetDict:
    def encode(batch):
        sources = [data_args.source_prefix + pair[data_args.source_lang] for pair in batch["translation"]]
        targets = [pair[data_args.target_lang] for pair in batch["translation"]]
        encoded = tokenizer(sources, max_length=data_args.max_source_length, truncation=True)
        labels = tokenizer(text_target=targets, max_length=data_args.max_target_length, truncation=True)
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": labels["input_ids"],
        }

    return raw.map(encode, batched=True, remove_columns=raw["train"].column_names)


if __name__ == "__main__":
    main()
