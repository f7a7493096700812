"""`segmentation_compute_metrics`: what is given to it, and evaluations that are stopped."""

import numpy as np
import pytest
import torch
from torch import nn
from toy_pixels import NAMES, SIDE, VOID, make_convolutions, make_scenes, make_trainer
from transformers import EvalPrediction, Trainer, TrainingArguments

from reloss_hf import segmentation_compute_metrics


class Damaged(torch.utils.data.Dataset):
    """Scenes of which a later one cannot be read."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        if row == 12:
            raise OSError("image file is truncated")
        return self.rows[row]


@pytest.mark.parametrize("size", [4, 20])
def test_an_evaluation_that_was_stopped_leaves_no_counts(tmp_path, size):
    rows, others = make_scenes(20), make_scenes(20, seed=1)
    model = make_convolutions()
    args = TrainingArguments(
        str(tmp_path), batch_eval_metrics=True, per_device_eval_batch_size=4, use_cpu=True, report_to="none",
        disable_tqdm=True,
    )  # fmt: skip
    fresh = Trainer(model, args, compute_metrics=segmentation_compute_metrics(model)).evaluate(rows)
    trainer = Trainer(model, args, compute_metrics=segmentation_compute_metrics(model))
    with pytest.raises(OSError, match="truncated"):
        trainer.evaluate(Damaged(others))
    args.per_device_eval_batch_size = size
    assert trainer.evaluate(rows)["eval_mean_iou"] == fresh["eval_mean_iou"]


def test_counts_are_summed_in_a_loop_of_ones_own(tmp_path):
    rows, model = make_scenes(20), make_convolutions()
    trainer = make_trainer(tmp_path, rows, model, arguments={"surrogate_start": None})
    compute = segmentation_compute_metrics(model)
    whole = compute(EvalPrediction(model(rows["pixel_values"][:]).logits.detach(), rows["labels"][:]))
    for batch in trainer.get_eval_dataloader(rows):
        prediction = EvalPrediction(model(batch["pixel_values"]).logits.detach(), batch["labels"])
        compute(prediction, compute_result=False)
    nothing = EvalPrediction(prediction.predictions[:0], prediction.label_ids[:0])
    assert compute(nothing)["mean_iou"] == pytest.approx(whole["mean_iou"])


def test_the_label_of_void_pixels_may_be_named_again():
    model, rows = make_convolutions(), make_scenes(8)
    prediction = EvalPrediction(model(rows["pixel_values"][:]).logits.detach(), rows["labels"][:])
    plain, named = (segmentation_compute_metrics(model, **options) for options in ({}, {"ignore_index": VOID}))
    assert plain(prediction) == named(prediction)


def test_labels_are_not_reduced_twice(tmp_path):
    with pytest.raises(ValueError, match="reduce_labels=True would lower the labels a second time"):
        segmentation_compute_metrics(make_convolutions(), reduce_labels=True)
    with pytest.raises(ValueError, match="reduce_labels=True would lower the labels a second time"):
        make_trainer(tmp_path, make_scenes(40), metric="mean_iou", metric_options={"reduce_labels": True})


def test_a_module_of_ones_own_tells_no_number_of_classes():
    module, masks = nn.Conv2d(3, len(NAMES), 1), torch.zeros(2, SIDE, SIDE, dtype=torch.long)
    masks[1, :4] = 2
    with pytest.raises(ValueError, match="num_labels=None does not tell the classes of model=Conv2d.*pass the number"):
        segmentation_compute_metrics(module)
    found = segmentation_compute_metrics(module, num_labels=len(NAMES))(EvalPrediction(masks.numpy(), masks.numpy()))
    assert found["mean_iou"] == found["iou_0"] == found["iou_2"] == 1 and np.isnan(found["iou_1"])
    with pytest.raises(ValueError, match="num_labels=7 does not tell the classes of model=Convolutions.* has 3"):
        segmentation_compute_metrics(make_convolutions(), num_labels=7)
