"""The common part of the two scripts: data, features, error rates and results."""

import sys
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import corpus
import datasets
import numpy as np
import torch
from transformers import TrainingArguments

from reloss_hf import ReLossTrainer
from reloss_hf.sharing.plots import to_png
from reloss_hf.tasks.error_rates import ErrorRate

sys.path.append(str(Path(__file__).resolve().parents[1]))
import common
from plots import plot_edits

SCORES = ("wer", "cer", "substitutions", "deletions", "insertions", "wer_validation")


@dataclass
class DataArguments(common.DataArguments):
    audio_column_name: str = field(default="audio", metadata={"help": "The column of paths, sounds or samples."})
    text_column_name: str = field(default="text", metadata={"help": "The column of the texts."})
    normalize: str | None = field(
        default=None, metadata={"help": "'whisper' or 'whisper_basic', before texts are compared; by default nothing."}
    )
    loudness: float = field(default=0.5, metadata={"help": "The loudness of the noise in the corpus of its own."})
    words: int = field(default=4, metadata={"help": "The most words of an utterance in the corpus of its own."})

    @property
    def options(self) -> dict[str, Any]:
        return {"normalize": self.normalize} if self.normalize else {}


@dataclass
class SpeechExperiment(common.Experiment):
    data_args: DataArguments
    data: datasets.DatasetDict
    processor: Any

    metric: ClassVar[str] = "wer"
    trainer_class: ClassVar[type[ReLossTrainer]]

    def trainer(
        self, arm: str, model: str | Path, callbacks=None, surrogate=None, cls=None, metric="wer", **changes
    ) -> ReLossTrainer:
        model = self.load(model)
        return (cls or self.trainer_class)(
            model=model,
            args=self.arguments(arm, changes),
            train_dataset=self.data["train"],
            eval_dataset=self.data["validation"],
            surrogate_dataset=self.data["surrogate"],
            processing_class=self.processor,
            data_collator=self.collator(model),
            metric=metric,
            metric_options=self.data_args.options if metric == "wer" else None,
            surrogate=surrogate,
            callbacks=callbacks,
        )

    @abstractmethod
    def collator(self, model: Any) -> Any:
        """Makes the batches of a model."""

    @abstractmethod
    def transcribe(self, model: Any, split: str) -> tuple[list[str], list[str]]:
        """The texts that a model hears in a split, and those that were said."""

    def score(self, folder: str | Path) -> dict:
        """The scores of a saved model."""
        return self.score_of(self.load(folder).to(self.args.device))

    def score_of(self, model: Any) -> dict:
        """The error rates of a model, and word errors by kind."""
        model.eval()
        heard, said = self.transcribe(model, "test")
        scores = {unit: ErrorRate(unit, self.data_args.normalize)(heard, said) for unit in ("word", "character")}
        found = scores["word"] | {"cer": scores["character"]["cer"], "wer_validation": self.validation_score(model)}
        return {name: round(found[name], 4) for name in SCORES}

    def validation_score(self, model: Any) -> float:
        return ErrorRate("word", self.data_args.normalize)(*self.transcribe(model.eval(), "validation"))["wer"]

    def report(self, arms: dict[str, dict[str, Any]]) -> None:
        """Train the arms, write the results and the plot, and print the table."""
        rows = self.compare(arms)
        if self.args.process_index == 0:
            (self.out / "word_errors.png").write_bytes(to_png(plot_edits({row["arm"]: row for row in rows})))
            common.print_table(rows, list(SCORES))


def read_data(data_args: DataArguments, rate: int, args: TrainingArguments) -> datasets.DatasetDict:
    """The splits, and `surrogate`, with the columns `audio`, samples at the given rate, and `text`."""
    raw = common.read_splits(data_args, lambda: corpus.load(noise=data_args.loudness, words=data_args.words))
    columns = {"audio_column_name": "audio", "text_column_name": "text"}
    raw = common.with_columns(common.limited(raw, data_args), data_args, columns).select_columns(["audio", "text"])
    if not isinstance(raw["train"].features["audio"], datasets.List | datasets.Sequence):
        raw = raw.cast_column("audio", datasets.Audio(sampling_rate=rate))
    common.hold_out(raw, args)
    return raw


def features_of(raw: datasets.DatasetDict, processor: Any) -> datasets.DatasetDict:
    """The features of speech, the `labels` of its text, and the text."""
    name = processor.feature_extractor.model_input_names[0]
    rate = processor.feature_extractor.sampling_rate

    def encode(row: dict) -> dict:
        audio = row["audio"] if isinstance(row["audio"], list) else row["audio"]["array"]
        speech = processor.feature_extractor(np.asarray(audio, dtype=np.float32), sampling_rate=rate)[name][0]
        return {name: np.asarray(speech), "labels": processor.tokenizer(row["text"]).input_ids}

    return raw.map(encode, remove_columns=["audio"]).with_format("numpy", columns=[name], output_all_columns=True)


def batches(dataset: datasets.Dataset, collate: Any, size: int, device: torch.device) -> Any:
    """The batches of a data set on a device, in their order."""
    for start in range(0, len(dataset), size):
        rows = [dataset[row] for row in range(start, min(start + size, len(dataset)))]
        yield {name: value.to(device) for name, value in collate(rows).items()}
