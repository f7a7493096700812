"""Slices, weights, labels and metrics as people pass them: what cannot work is refused before the first step."""

import logging

import datasets
import numpy as np
import pytest
import torch
from forced import Forced
from sklearn.utils.class_weight import compute_class_weight
from toy_classes import CLASSES, Bag, make_model, make_rows, make_trainer, weights_of

from reloss_hf import ClassCosts, ClassWeightedCrossEntropy, Predictions, SurrogateLoss

MACRO = {"metric": "f1", "metric_options": {"average": "macro"}}
SHORT = {"max_steps": 8, "surrogate_held_out_share": 0.3}


@pytest.mark.parametrize(
    ("slice_", "message"),
    [
        (make_rows(40).remove_columns("labels"), "the batch has no 'labels'"),
        (
            datasets.Dataset.from_dict({"text": ["a"] * 40, "labels": [0, 1] * 20}),
            "learning a surrogate of metric='f1'",
        ),
        (make_rows(40).to_iterable_dataset(), "surrogate_dataset=IterableDataset is not one data set"),
        ({"one": make_rows(40)}, "surrogate_dataset=dict is not one data set"),
    ],
)
def test_a_slice_that_cannot_be_predicted_fails_before_the_first_step(tmp_path, slice_, message):
    with pytest.raises(ValueError, match=message):
        trainer = make_trainer(tmp_path, arguments=SHORT, surrogate_dataset=slice_, **MACRO)
        trainer.train()
    if not isinstance(slice_, dict | datasets.IterableDataset):
        assert trainer.state.global_step == 0


def test_a_metric_that_fails_after_the_switch_does_not_end_the_run(tmp_path, caplog):
    calls = []

    def fails_later(predictions, references):
        calls.append(1)
        if len(calls) > 1000:
            raise ZeroDivisionError("later")
        return float((np.array(predictions) == np.array(references)).mean())

    arguments = SHORT | {"surrogate_learn_again": 0, "max_steps": 40}
    with caplog.at_level(logging.WARNING):
        trainer = make_trainer(tmp_path, cls=Forced, arguments=arguments, metric=fails_later)
        trainer.learner.sets = 8
        trainer.train()
        calls.extend([1] * 1000)
        trainer.learning.finish(trainer.model)
    assert trainer.state.global_step == 40
    assert "cannot be scored, so the surrogate is not watched" in caplog.text


def test_without_a_metric_training_stays_on_the_models_own_loss(tmp_path, caplog):
    runs = []
    for start in (0.5, None):
        arguments = SHORT | {"surrogate_start": start, "label_smoothing_factor": 0.2}
        with caplog.at_level(logging.WARNING):
            trainer = make_trainer(tmp_path, arguments=arguments)
            trainer.train()
        runs.append(weights_of(trainer))
    assert torch.equal(*runs)
    assert "metric=None and surrogate=None: training stays on cross-entropy" in caplog.text


def test_class_weights_of_scikit_learn_are_saved(tmp_path):
    rows = make_rows(200)
    weights = compute_class_weight("balanced", classes=np.arange(CLASSES), y=np.array(rows["labels"][:]))
    for given in (weights, torch.tensor(weights), list(weights)):
        ClassWeightedCrossEntropy(weights=given).save_pretrained(tmp_path / "loss")
        loaded = SurrogateLoss.from_pretrained(tmp_path / "loss")
        assert loaded.config["weights"] == pytest.approx(list(weights))


def test_a_surrogate_for_another_number_of_classes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="learned for 7 classes, and BertForSequenceClassification has 4"):
        make_trainer(tmp_path, arguments={"surrogate_start": 0}, surrogate=ClassCosts(7))


@pytest.mark.parametrize("start", [None, 0.5])
def test_classes_in_rows_of_their_own_are_classes(tmp_path, start):
    rows = make_rows(200).map(lambda row: {"labels": [row["labels"]]})
    trainer = make_trainer(tmp_path, rows, None, Forced, SHORT | {"surrogate_start": start}, **MACRO)
    trainer.train()
    assert not trainer.task.several
    assert trainer.surrogate_in_force == (start is not None)


class Buffered(Bag):
    """Holds a buffer that grows with what it has seen, and one that is expanded."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(0))
        self.register_buffer("expanded", torch.zeros(1).expand(3))

    def forward(self, input_ids, labels=None):
        self.seen = torch.cat([self.seen, torch.zeros(1)])
        return super().forward(input_ids, labels)


def test_buffers_that_grow_or_are_expanded_are_left_as_they_were(tmp_path):
    trainer = make_trainer(tmp_path, model=Buffered(), arguments=SHORT | {"surrogate_start": None})
    trainer.train()
    assert len(trainer.model.seen) == trainer.state.global_step


def test_predictions_of_an_earlier_run_in_the_same_folder_are_forgotten(tmp_path):
    for again in (1, 0):
        arguments = SHORT | {"save_predictions": True, "surrogate_learn_again": again}
        make_trainer(tmp_path, cls=Forced, arguments=arguments, **MACRO).train()
    assert Predictions.load(tmp_path / "predictions").candidates.unique().tolist() == [0]


def test_a_run_resumed_with_another_slice_goes_on(tmp_path):
    arguments = SHORT | {"save_strategy": "steps", "save_steps": 6}
    make_trainer(tmp_path, make_rows(300), make_model(), Forced, arguments, **MACRO).train()
    resumed = make_trainer(
        tmp_path, make_rows(300), make_model(), Forced, arguments, surrogate_dataset=make_rows(80, seed=3), **MACRO
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert resumed.state.global_step == 8
