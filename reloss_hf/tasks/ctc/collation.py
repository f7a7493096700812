"""Makes batches of speech and its texts."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ...classes.losses import IGNORED


class DataCollatorCTCWithPadding:
    """Pads the inputs of rows by the feature extractor, and their `labels` with -100.

    Args:
        processor: has a feature extractor, as `Wav2Vec2Processor` does.
    """

    def __init__(self, processor: Any):
        self.processor = processor
        self.name = processor.feature_extractor.model_input_names[0]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = self.processor.feature_extractor.pad(
            [{self.name: row[self.name]} for row in rows], padding=True, return_tensors="pt"
        )
        # An empty text has one label that is ignored, because models refuse labels without a column.
        labels = [torch.tensor([*row["labels"]] or [IGNORED]) for row in rows]
        return {**batch, "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED)}
