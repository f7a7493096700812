"""Fine-tune Whisper on cross-entropy and on a learned surrogate of word error rate, from one warm start.

    python examples/speech/run_speech_recognition_seq2seq.py   # words of its own corpus, a few minutes on two cores
    python examples/speech/run_speech_recognition_seq2seq.py --model_name_or_path openai/whisper-tiny.en \
        --train_file train.jsonl --validation_file validation.jsonl --num_train_epochs 3 --learning_rate 1e-5

The files have the columns `audio`, paths of sound files, and `text`. All arms continue the same warm start on the same
data. With `--surrogate_predictions generate` a surrogate is learned from a slice that is left out of that data, else
from the training batches. The table, `results.json` and a plot of the word errors by kind go to `--output_dir`.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from from_scratch import build_whisper, build_whisper_processor
from preparation import DataArguments, SpeechExperiment, batches, common, features_of, read_data
from transformers import (
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    GenerationMixin,
    PreTrainedModel,
    set_seed,
)

from reloss_hf import (
    MinimumWerLoss,
    NgramSurrogate,
    OwnOutputSurrogate,
    ReLossSeq2SeqTrainer,
    ReLossSeq2SeqTrainingArguments,
)

# Losses that are not learned.
NOT_LEARNED = {
    "expected_wer": {"surrogate": MinimumWerLoss, "surrogate_cross_entropy_share": 0.1},
    "own_output": {"surrogate": OwnOutputSurrogate},
    "as_written": {"surrogate": NgramSurrogate},
}
ARMS = ("cross_entropy", *NOT_LEARNED, "surrogate")


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A model to fine-tune, on disk or the hub; by default a small one from scratch."},
    )
    layers: int = field(default=2, metadata={"help": "Layers of the encoder and of the decoder from scratch."})
    width: int = field(default=96, metadata={"help": "Width of a model from scratch; its feed-forward is twice it."})
    heads: int = field(default=4, metadata={"help": "Attention heads of a model from scratch."})
    dropout: float = field(default=0.0, metadata={"help": "From scratch."})
    vocabulary: int = field(
        default=320, metadata={"help": "Tokens of a tokenizer from scratch; 256 of them are bytes."}
    )
    seconds: int = field(default=2, metadata={"help": "The longest speech of a model from scratch."})


@dataclass
class Seq2SeqArguments(DataArguments):
    loss: list[str] = field(
        default_factory=lambda: ["cross_entropy", "surrogate"], metadata={"help": "The arms to run.", "choices": ARMS}
    )


@dataclass
class Collator:
    """Pads labels with -100. Takes the start token away, which the model puts first."""

    processor: Any
    start: int

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        labels = [np.asarray(row["labels"]).tolist() for row in rows]
        labels = [row[1:] if row[0] == self.start else row for row in labels]
        longest = max(map(len, labels))
        return {
            "input_features": torch.from_numpy(np.stack([row["input_features"] for row in rows])).float(),
            "labels": torch.tensor([row + [-100] * (longest - len(row)) for row in labels]),
        }


def main() -> None:
    model_args, data_args, args = parse_arguments()
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.WARNING)
    experiment = make_experiment(model_args, data_args, args)
    not_learned = {arm: changes | {"surrogate": changes["surrogate"]()} for arm, changes in NOT_LEARNED.items()}
    experiment.report(common.arms_of(data_args.loss, "cross_entropy", not_learned))


def make_experiment(
    model_args: ModelArguments, data_args: Seq2SeqArguments, args: ReLossSeq2SeqTrainingArguments
) -> "Seq2SeqExperiment":
    set_seed(args.seed)
    name = model_args.model_name_or_path
    processor = AutoProcessor.from_pretrained(name) if name else None
    rate = processor.feature_extractor.sampling_rate if name else 16_000
    raw = read_data(data_args, rate, args)
    if processor is None:
        processor = build_whisper_processor(raw["train"]["text"], model_args.vocabulary, model_args.seconds)
        size = (model_args.layers, model_args.width, model_args.heads, model_args.dropout)
        model = build_whisper(processor, *size)
    else:
        model = AutoModelForSpeechSeq2Seq.from_pretrained(name)
    common.save_initial_model(model, args)
    return Seq2SeqExperiment(args, Path(args.output_dir), data_args, features_of(raw, processor), processor)


class Seq2SeqExperiment(SpeechExperiment):
    trainer_class = ReLossSeq2SeqTrainer

    def collator(self, model: PreTrainedModel) -> Collator:
        return Collator(self.processor, model.config.decoder_start_token_id)

    def load(self, folder: str | Path) -> PreTrainedModel:
        return AutoModelForSpeechSeq2Seq.from_pretrained(folder, attn_implementation=self.attention)

    @torch.no_grad()
    def transcribe(self, model: PreTrainedModel, split: str) -> tuple[list[str], list[str]]:
        heard = []
        for inputs in batches(self.data[split], self.collator(model), self.args.eval_batch_size, model.device):
            prompt = self.processor.tokenizer.prefix_tokens
            # Whisper's own generate() is for speech of 30 seconds, in chunks.
            tokens = GenerationMixin.generate(
                model,
                inputs["input_features"],
                decoder_input_ids=torch.tensor([prompt] * len(inputs["labels"]), device=model.device),
                max_new_tokens=inputs["labels"].shape[1] + 8,
                num_beams=1,
            )
            heard += self.processor.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in heard], self.data[split]["text"][:]


def parse_arguments(*more: type) -> tuple:
    """`ModelArguments`, `Seq2SeqArguments`, `ReLossSeq2SeqTrainingArguments`, and those of more data classes."""
    return common.parse(
        ModelArguments,
        Seq2SeqArguments,
        ReLossSeq2SeqTrainingArguments,
        *more,
        warmup_steps=50,
        per_device_train_batch_size=16,
        output_dir="out/speech_seq2seq",
        num_train_epochs=15,
        learning_rate=1e-3,
        # Attention that is trained from nothing finds one or two words in a few minutes, and not four.
        words=2,
        loudness=0.2,
        surrogate_start=0.8,
        surrogate_held_out_share=0.15,
        predict_with_generate=True,
    )


if __name__ == "__main__":
    main()
