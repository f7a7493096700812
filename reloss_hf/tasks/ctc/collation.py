"""Makes batches of speech and its texts."""

from typing import Any

from torch import Tensor

from ...classes.losses import IGNORED


class DataCollatorCTCWithPadding:
    """Pads the inputs of rows by the feature extractor, and their `labels` with -100.

    Args:
        processor: has a feature extractor and a tokenizer, as `Wav2Vec2Processor` does.
    """

    def __init__(self, processor: Any):
        self.processor = processor
        self.name = processor.feature_extractor.model_input_names[0]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = self.processor.feature_extractor.pad(
            [{self.name: row[self.name]} for row in rows], padding=True, return_tensors="pt"
        )
        labels = self.processor.tokenizer.pad(
            {"input_ids": [row["labels"] for row in rows]}, padding=True, return_tensors="pt"
        )
        return {**batch, "labels": labels["input_ids"].masked_fill(labels["attention_mask"] == 0, IGNORED)}
