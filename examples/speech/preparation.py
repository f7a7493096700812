"""The common part of the two scripts: data, features, error rates and results."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import corpus
import datasets
import numpy as np
import torch

from reloss_hf.sharing.plots import to_png
from reloss_hf.tasks.error_rates import ErrorRate

sys.path.append(str(Path(__file__).resolve().parents[1]))
import common
from plots import plot_edits

SCORES = ("wer", "cer", "substitutions", "deletions", "insertions", "wer_validation")
SPLITS = ("train", "surrogate", "validation", "test")


@dataclass
class DataArguments:
    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the hub."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    train_file: str | None = field(default=None, metadata={"help": "JSON lines with paths of sound files and texts."})
    validation_file: str | None = field(default=None, metadata={"help": "JSON lines."})
    test_file: str | None = field(default=None, metadata={"help": "JSON lines; by default the validation data."})
    audio_column_name: str = field(default="audio", metadata={"help": "The column of paths, sounds or samples."})
    text_column_name: str = field(default="text", metadata={"help": "The column of the texts."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on so many examples."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Validate and test on so many examples."})
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

    def transcribe(self, model: Any, split: str) -> tuple[list[str], list[str]]:
        """The texts that a model hears in a split, and those that were said."""
        raise NotImplementedError

    def score(self, folder: str | Path) -> dict:
        """The error rates of a saved model, and word errors by kind."""
        model = self.load(folder).to(self.args.device).eval()
        heard, said = self.transcribe(model, "test")
        scores = {unit: ErrorRate(unit, self.data_args.normalize)(heard, said) for unit in ("word", "character")}
        found = scores["word"] | {"cer": scores["character"]["cer"], "wer_validation": self.validation_score(model)}
        return {name: round(found[name], 4) for name in SCORES}

    def validation_score(self, model: Any) -> float:
        return ErrorRate("word", self.data_args.normalize)(*self.transcribe(model.eval(), "validation"))["wer"]

    def report(self, start: dict, arms: list[dict]) -> None:
        """Write the results and the plot, and print the table."""
        self.write_results(start, arms)
        figure = plot_edits({row["arm"]: row for row in (start, *arms)})
        (self.out / "word_errors.png").write_bytes(to_png(figure))
        common.print_table([start, *arms], list(SCORES))


def read_data(data_args: DataArguments, rate: int, share: float, seed: int) -> datasets.DatasetDict:
    """The `SPLITS`, with the columns `audio`, samples at the given rate, and `text`. A surrogate is learned from the
    split `surrogate`, a share of the training data, and no arm is trained on it."""
    raw = common.read_splits(data_args, lambda: corpus.load(noise=data_args.loudness, words=data_args.words))
    if "validation" not in raw:
        raise ValueError(f"the data set has {list(raw)}, and no validation data: pass --validation_file")
    columns = {data_args.audio_column_name: "audio", data_args.text_column_name: "text"}
    missing = [name for name in columns if name not in raw["train"].column_names]
    if missing:
        raise ValueError(
            f"the columns {missing} are none of {raw['train'].column_names}: pass --audio_column_name and "
            "--text_column_name"
        )
    raw = raw.rename_columns({old: new for old, new in columns.items() if old != new}).select_columns(["audio", "text"])
    common.limit_samples(raw, data_args)
    if not isinstance(raw["train"].features["audio"], datasets.List | datasets.Sequence):
        raw = raw.cast_column("audio", datasets.Audio(sampling_rate=rate))
    parts = raw["train"].train_test_split(share, seed=seed)
    raw["train"], raw["surrogate"] = parts["train"], parts["test"]
    return datasets.DatasetDict({split: raw[split] for split in SPLITS})


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
