"""Held-out images that are not the same each time they are read."""

import logging

import numpy as np
import pytest
import torch
from toy_pixels import make_scenes, make_trainer

from reloss_hf import ReLossTrainer


class Flipped(torch.utils.data.Dataset):
    """Scenes of which a half are mirrored, drawn anew at each reading."""

    def __init__(self, rows, random):
        self.rows, self.random, self.draw = rows, random, np.random.default_rng(0)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        mirrored = self.random and self.draw.random() < 0.5
        return {name: value.flip(-1) if mirrored else value for name, value in self.rows[row].items()}


class Forced(ReLossTrainer):
    """Uses what was learned whatever the report says."""

    def _learn(self, *predictions):
        surrogate, report, _ = super()._learn(*predictions)
        return surrogate, report, None


@pytest.mark.parametrize("random", [True, False])
def test_masks_that_change_at_random_cannot_be_watched(tmp_path, caplog, random):
    rows = make_scenes(80)
    held_out = Flipped(rows.select(range(40)), random)
    trainer = make_trainer(tmp_path, rows, cls=Forced, metric="overall_accuracy", surrogate_dataset=held_out)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.surrogate_report is not None
    assert ("references of the held-out examples are not those of the switch" in caplog.text) == random
