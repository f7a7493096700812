"""Fine-tune a CTC model of speech on CTC and on a learned surrogate of word error rate, from one warm start.

    python examples/speech/run_speech_recognition_ctc.py   # words of its own corpus, a few minutes on two cores
    python examples/speech/run_speech_recognition_ctc.py --model_name_or_path facebook/wav2vec2-base-960h \
        --train_file train.jsonl --validation_file validation.jsonl --num_train_epochs 3 --learning_rate 3e-5

The files have the columns `audio`, paths of sound files, and `text`. All arms continue the same warm start on the same
data. A slice is left out of that data, and the surrogate is learned from it. The table, `results.json` and a plot of
the word errors by kind go to `--output_dir`.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from from_scratch import build_ctc_model, build_ctc_processor
from preparation import DataArguments, SpeechExperiment, batches, common, features_of, read_data
from transformers import AutoModelForCTC, AutoProcessor, PreTrainedModel, set_seed

from reloss_hf import (
    CtcCosts,
    CtcNgramLoss,
    DataCollatorCTCWithPadding,
    ExpectedWerLoss,
    ReLossTrainer,
    ReLossTrainingArguments,
)

# Losses that are not learned. Expected word errors are mixed with a share of CTC, as in the paper.
NOT_LEARNED = {
    "expected_wer": {"surrogate": ExpectedWerLoss, "surrogate_cross_entropy_share": 0.1},
    "ngrams": {"surrogate": CtcNgramLoss},
    "as_written": {"surrogate": CtcCosts},
}
ARMS = ("ctc", *NOT_LEARNED, "surrogate")


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A model to fine-tune, on disk or the hub; by default a small one from scratch."},
    )
    layers: int = field(default=2, metadata={"help": "Layers of a model from scratch."})
    width: int = field(default=96, metadata={"help": "Width of a model from scratch; its feed-forward is twice it."})
    heads: int = field(default=4, metadata={"help": "Attention heads of a model from scratch."})
    dropout: float = field(default=0.1, metadata={"help": "From scratch."})


@dataclass
class CtcArguments(DataArguments):
    loss: list[str] = field(
        default_factory=lambda: ["ctc", "surrogate"], metadata={"help": "The arms to run.", "choices": ARMS}
    )


def main() -> None:
    model_args, data_args, args = parse_arguments()
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    experiment = make_experiment(model_args, data_args, args)
    not_learned = {arm: changes | {"surrogate": changes["surrogate"]()} for arm, changes in NOT_LEARNED.items()}
    experiment.report(common.arms_of(data_args.loss, "ctc", not_learned))


def make_experiment(
    model_args: ModelArguments, data_args: CtcArguments, args: ReLossTrainingArguments
) -> "CtcExperiment":
    set_seed(args.seed)
    name = model_args.model_name_or_path
    processor = AutoProcessor.from_pretrained(name) if name else None
    rate = processor.feature_extractor.sampling_rate if name else 16_000
    raw = read_data(data_args, rate, args)
    if processor is None:
        with args.main_process_first(desc="writing the vocabulary"):
            processor = build_ctc_processor(raw["train"]["text"], Path(args.output_dir))
        size = (model_args.layers, model_args.width, model_args.heads, model_args.dropout)
        model = build_ctc_model(processor, *size)
    else:
        model = AutoModelForCTC.from_pretrained(name)
    common.save_initial_model(model, args)
    return CtcExperiment(args, Path(args.output_dir), data_args, features_of(raw, processor), processor)


class CtcExperiment(SpeechExperiment):
    trainer_class = ReLossTrainer

    def collator(self, model: PreTrainedModel) -> DataCollatorCTCWithPadding:
        return DataCollatorCTCWithPadding(self.processor)

    def load(self, folder: str | Path) -> PreTrainedModel:
        return AutoModelForCTC.from_pretrained(folder)

    @torch.no_grad()
    def transcribe(self, model: PreTrainedModel, split: str) -> tuple[list[str], list[str]]:
        heard, collate = [], self.collator(model)
        blank = self.processor.tokenizer.pad_token_id
        for inputs in batches(self.data[split], collate, self.args.eval_batch_size, self.args.device):
            inputs.pop("labels")
            path = model(**inputs).logits.argmax(-1).cpu()
            if "attention_mask" in inputs:
                frames = model._get_feat_extract_output_lengths(inputs["attention_mask"].sum(-1))
                path = path.masked_fill(torch.arange(path.shape[1]) >= frames.cpu().unsqueeze(1), blank)
            heard += self.processor.batch_decode(path, skip_special_tokens=True)
        return heard, self.data[split]["text"][:]


def parse_arguments(*more: type) -> tuple:
    """`ModelArguments`, `CtcArguments`, `ReLossTrainingArguments`, and the arguments of more data classes."""
    return common.parse(
        ModelArguments,
        CtcArguments,
        ReLossTrainingArguments,
        *more,
        warmup_steps=50,
        output_dir="out/speech_ctc",
        num_train_epochs=12,
        learning_rate=2e-3,
        surrogate_start=0.7,
        surrogate_held_out_share=0.15,
    )


if __name__ == "__main__":
    main()
