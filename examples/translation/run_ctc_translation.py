"""Train a translator that says all words at once, on CTC and on losses that match n-grams, from one warm start.

    python examples/translation/run_ctc_translation.py                   # a small corpus of its own, a few minutes
    python examples/translation/run_ctc_translation.py --vocab_size 3000 --layers 3 --width 192 \
        --train_file train.json --validation_file validation.json --test_file test.json --num_train_epochs 30

The model is that of `ctc_translator`, from scratch. All arms continue the same warm start on the same data. A slice is
left out of that data, and surrogates are learned from it. The table and `results.json` go to `--output_dir`.
"""

import logging
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import run_translation
import torch
from ctc_translator import CtcTranslator, CtcTranslatorConfig
from from_scratch import train_tokenizer
from run_translation import common, load_data, tokenize
from sacrebleu.metrics import BLEU
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq, set_seed

from reloss_hf import CtcCosts, CtcNgramLoss, ReLossTrainer, ReLossTrainingArguments

NOT_LEARNED = {"ngrams": CtcNgramLoss, "as_written": CtcCosts}
ARMS = ("ctc", *NOT_LEARNED, "surrogate")
_SPLITS = ("validation", "test")


@dataclass
class ModelArguments:
    vocab_size: int = field(default=1500, metadata={"help": "Vocabulary size of the tokenizer."})
    layers: int = field(default=2, metadata={"help": "Layers below and above where states are repeated."})
    width: int = field(default=128, metadata={"help": "Width of the model; its feed-forward is twice it."})
    heads: int = field(default=4, metadata={"help": "Attention heads."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout."})
    repeats: int = field(default=2, metadata={"help": "Frames for each token of the source."})


@dataclass
class DataArguments(run_translation.DataArguments):
    loss: list[str] = field(
        default_factory=lambda: ["ctc", "ngrams", "surrogate"], metadata={"help": "The arms to run.", "choices": ARMS}
    )


def main() -> None:
    model_args, data_args, args = parse_arguments()
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    experiment = make_experiment(model_args, data_args, args)
    not_learned = {arm: {"surrogate": loss()} for arm, loss in NOT_LEARNED.items()}
    rows = experiment.compare(common.arms_of(data_args.loss, "ctc", not_learned))
    if args.process_index == 0:
        common.print_table(rows, ["bleu", "bleu_validation", "length", "repeated"])


def make_experiment(
    model_args: ModelArguments, data_args: DataArguments, args: ReLossTrainingArguments
) -> "CtcExperiment":
    set_seed(args.seed)
    raw = load_data(data_args)
    languages = (data_args.source_lang, data_args.target_lang)
    tokenizer = train_tokenizer(
        (pair[language] for pair in raw["train"]["translation"] for language in languages), model_args.vocab_size
    )
    size = {name: getattr(model_args, name) for name in ("layers", "width", "heads", "dropout", "repeats")}
    model = CtcTranslator(CtcTranslatorConfig(len(tokenizer), pad_token_id=tokenizer.pad_token_id, **size))
    common.save_initial_model(model, args)
    return CtcExperiment(args, Path(args.output_dir), data_args, raw, tokenize(raw, tokenizer, data_args), tokenizer)


class CtcExperiment(run_translation.Experiment):
    def trainer(
        self, arm: str, model: str | Path, callbacks=None, surrogate=None, cls=None, **changes
    ) -> ReLossTrainer:
        return (cls or ReLossTrainer)(
            model=self.load(model),
            args=self.arguments(arm, changes),
            train_dataset=self.tokenized["train"],
            eval_dataset=self.tokenized["validation"],
            surrogate_dataset=self.tokenized["surrogate"],
            processing_class=self.tokenizer,
            data_collator=DataCollatorForSeq2Seq(self.tokenizer),
            task="ctc",
            metric="sacrebleu",
            surrogate=surrogate,
            callbacks=callbacks,
        )

    def load(self, folder: str | Path) -> CtcTranslator:
        return CtcTranslator.from_pretrained(folder)

    def score(self, folder: str | Path) -> dict:
        """Cased sacreBLEU, and on the test data the length of the outputs over that of the references, and the share of
        words that repeat the word before. Writes the translations beside the model."""
        model, scores = self.load(folder).to(self.args.device).eval(), {}
        for split, suffix in zip(_SPLITS, ("_validation", ""), strict=True):
            heard = self.translate(model, split)
            (Path(folder) / f"{split}.txt").write_text("".join(f"{text}\n" for text in heard))
            found = BLEU().corpus_score(heard, [self.references(split)])
            scores[f"bleu{suffix}"] = round(found.score, 2)
        words = [text.split() for text in heard]
        repeated = sum(one == other for text in words for one, other in pairwise(text))
        share = round(repeated / max(1, sum(map(len, words))), 4)
        return scores | {"length": round(found.sys_len / found.ref_len, 3), "repeated": share}

    @torch.no_grad()
    def translate(self, model: CtcTranslator, split: str, beams: int = 1) -> list[str]:
        """The most probable token of each frame, without what repeats and blanks."""
        outputs, collate = [], DataCollatorForSeq2Seq(self.tokenizer)
        blank = model.config.pad_token_id
        for batch in DataLoader(self.tokenized[split], self.args.eval_batch_size, collate_fn=collate):
            inputs = {name: batch[name].to(self.args.device) for name in ("input_ids", "attention_mask")}
            known = inputs["attention_mask"].repeat_interleave(model.config.repeats, 1)
            path = model(**inputs).logits.argmax(-1).masked_fill(known == 0, blank)
            outputs += [row.unique_consecutive() for row in path.cpu()]
        return self.tokenizer.batch_decode(outputs, skip_special_tokens=True)


def parse_arguments(*more: type) -> tuple:
    """`ModelArguments`, `DataArguments`, `ReLossTrainingArguments`, and the arguments of more data classes."""
    return common.parse(
        ModelArguments,
        DataArguments,
        ReLossTrainingArguments,
        *more,
        output_dir="out/ctc_translation",
        num_train_epochs=6,
        surrogate_start=0.8,
        learning_rate=2e-3,
        surrogate_slice=400,
    )


if __name__ == "__main__":
    main()
