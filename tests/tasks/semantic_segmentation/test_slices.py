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
def test_masks_that_change_at_random_cannot_be_watched(tmp_path, caplog, monkeypatch, random):
    monkeypatch.setattr("reloss_hf.tasks.semantic_segmentation.pixels.KEPT_PIXELS", 64)
    rows = make_scenes(80)
    data = {"train": rows, "surrogate_dataset": Flipped(rows.select(range(40)), random)}
    arguments = {"max_steps": 8, "surrogate_learn_again": 1}
    trainer = make_trainer(tmp_path, cls=Forced, arguments=arguments, metric="overall_accuracy", **data)
    trainer.learner.sets, trainer.learner.candidates = 4, 8
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.surrogate_report is not None
    assert ("references of the held-out examples are not those of the switch" in caplog.text) == random
