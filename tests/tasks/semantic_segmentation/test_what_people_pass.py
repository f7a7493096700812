"""What people pass to a trainer of segmentation, and the errors that name it."""

import pytest
import torch
from toy_pixels import (
    VOID,
    as_dataset,
    make_model,
    make_scenes,
    make_trainer,
)
from transformers import (
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
)

from reloss_hf import (
    PixelCosts,
    PixelWeightedCrossEntropy,
)
from reloss_hf.tasks import task_for

SHORT = {"max_steps": 6, "surrogate_learn_again": 0}


def with_masks(change, count=40):
    rows = make_scenes(count)
    masks = change(rows["labels"][:].clone())
    return as_dataset(rows["pixel_values"][:], masks)


@pytest.mark.parametrize(
    ("change", "keywords", "message"),
    [
        (lambda m: m.masked_fill(m == 2, 7), {}, r"labels \[7\] are no classes of the model, which are 0 to 2.*255"),
        (lambda m: m.masked_fill(m == 2, -1), {}, r"labels \[-1\] are no classes of the model"),
        (
            lambda m: torch.cat([m[:10], torch.where(m[10:] == VOID, VOID, m[10:] + 1)]),
            {"metric": "mean_iou"},
            r"labels \[3.* are no classes of the model",
        ),
        (
            lambda m: torch.full_like(m, VOID),
            {"metric": "mean_iou"},
            "no pixel of 40 masks counts, because all are lab",
        ),
        (lambda m: m.unsqueeze(1), {"model": make_model()}, r"labels of the shape \(2, 1, 16, 16\) are no masks"),
        (lambda m: m[:, :8], {}, r"masks of the shape \(2, 8, 16\) do not fit logits of the shape \(2, 3, 8, 8\)"),
        (lambda m: m, {"surrogate": PixelCosts(7)}, "learned for 7 classes, and Convolutions has 3: pass metric="),
        (lambda m: m, {"metric": lambda predictions, references: 0.5}, "does not depend on the predictions"),
        (lambda m: m, {"metric": "mean_iou", "metric_options": {"average": "macro"}}, "no option 'average'"),
        (lambda m: m, {"metric": "accuracy"}, "'accuracy' .*metric='overall_accuracy'"),
    ],
)
def test_bad_input_is_refused_at_construction(tmp_path, change, keywords, message):
    start = 0 if "surrogate" in keywords else 0.5
    with pytest.raises((ValueError, RuntimeError), match=message):
        make_trainer(tmp_path, with_masks(change), arguments=SHORT | {"surrogate_start": start}, **keywords)


def test_models_that_match_masks_and_those_of_one_logit_are_refused(small, tmp_path):
    with torch.device("meta"):
        model = MaskFormerForInstanceSegmentation(MaskFormerConfig())
    with pytest.raises(ValueError, match="MaskFormerForInstanceSegmentation predicts whole masks and matches them"):
        task_for(model)(model, None)
    with pytest.raises(ValueError, match=r"one logit for each pixel \(num_labels=1\): load it with num_labels=2"):
        make_trainer(tmp_path, small, make_model(names=["pole"]))


def test_a_mask_of_other_classes_far_behind_is_an_error_that_names_them(tmp_path):
    rows = with_masks(lambda masks: torch.cat([masks[:10], masks[10:].masked_fill(masks[10:] == 1, 9)]))
    trainer = make_trainer(tmp_path, rows, arguments={"surrogate_start": None})
    with pytest.raises(ValueError, match=r"labels \[9\] are no classes of the model"):
        trainer.train()


def test_rows_without_masks_cannot_be_counted(small, tmp_path):
    raw = [{"pixel_values": row["pixel_values"], "mask": row["labels"]} for row in small]

    def collate(rows):
        return {name: torch.stack([row[key] for row in rows]) for name, key in COLUMNS.items()}

    keywords = {"data_collator": collate, "surrogate": PixelWeightedCrossEntropy()}
    with pytest.raises(ValueError, match="the classes of train_dataset=list cannot be counted.*pass frequencies="):
        make_trainer(tmp_path, raw, arguments={"surrogate_start": 0, "remove_unused_columns": False}, **keywords)


COLUMNS = {"pixel_values": "pixel_values", "labels": "mask"}
