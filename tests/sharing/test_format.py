"""What was written in format 1 loads in every later version: the fixtures are never made anew."""

import json

import pytest
import torch
from places import TESTS

from reloss_hf import LogNgramSurrogate, Predictions, SurrogateLoss

FORMAT_1 = TESTS / "fixtures" / "format_1"
EXPECTED = json.loads((FORMAT_1 / "expected.json").read_text(encoding="utf-8"))


def test_predictions_of_format_1_are_read():
    predictions = Predictions.load(FORMAT_1 / "predictions")
    assert predictions.predictions == EXPECTED["predictions"]
    assert predictions.references == EXPECTED["references"]
    assert predictions.candidates.tolist() == EXPECTED["candidates"]
    assert predictions.features["target_mask"].dtype == torch.bool


def test_a_surrogate_of_format_1_gives_the_losses_that_it_gave():
    surrogate = SurrogateLoss.from_pretrained(FORMAT_1 / "surrogate")
    assert isinstance(surrogate, LogNgramSurrogate)
    assert surrogate.config == {"max_order": 3}
    assert surrogate.info == {"metric": "bleu", "spearman": 0.5}
    assert surrogate.held_out.candidates.tolist() == [0, 1]
    losses = surrogate(Predictions.load(FORMAT_1 / "predictions").features)
    assert losses.tolist() == pytest.approx(EXPECTED["losses"], rel=1e-5)
