"""What people pass to a trainer of poses: data of all shapes, and errors."""

import pytest
import torch
from torch.utils.data import Subset
from toy_poses import (
    PCK,
    SHORT,
    SIZE,
    Dots,
    Forced,
    changed,
    make_persons,
    make_processor,
    make_rows,
    make_trainer,
    make_vitpose,
)

from reloss_hf import (
    ExpectedMiss,
    pose_compute_metrics,
    prepare_pose_features,
)
from reloss_hf.tasks.keypoints.task import KeypointsTask


def without(rows, name):
    return [{key: value for key, value in row.items() if key != name} for row in rows]


@pytest.mark.parametrize(
    ("spoil", "keywords", "message"),
    [
        (lambda rows: without(rows, "keypoints"), PCK, "the batch has no 'keypoints' and 'visible'"),
        (lambda rows: without(rows, "visible"), PCK, "the batch has no 'keypoints' and 'visible'"),
        (lambda rows: make_rows(40, joints=3), PCK, r"do not fit heatmaps .*need 4 joints: .*num_labels=3"),
        (
            lambda rows: changed(rows, visible=lambda row: row["visible"][:, None]), PCK,
            r"visible of the shape \(2, 4, 1\) do not fit .*pass keypoints of the shape \(2, 4, 2\)",
        ),
        (
            lambda rows: changed(rows, visible=lambda row: torch.zeros(4, dtype=torch.bool)), PCK,
            "no joint of the 80 examples in train_dataset is visible",
        ),
        (
            lambda rows: changed(rows, keypoints=lambda row: row["keypoints"] + 500), PCK,
            "visible joints in the first batch lies inside of the input of 24 x 32 pixels: .*in pixels of the input",
        ),
        (
            lambda rows: changed(rows, keypoints=lambda row: row["keypoints"] / torch.tensor([24.0, 32])), PCK,
            "visible joints in the first batch lie between 0 and 1, in a corner of .*not as shares of it",
        ),
        (
            lambda rows: changed(rows, keypoints=lambda row: row["keypoints"] * torch.nan), PCK,
            "visible joints in the first batch lies inside|keypoints of visible joints are not finite",
        ),
        (lambda rows: rows, {"metric": "pck"}, "the torso of 4 joints is unknown: pass metric_options"),
        (lambda rows: rows, {"metric": lambda predictions, references: 0.5}, "does not depend on the predictions"),
        (lambda rows: rows, {"surrogate": ExpectedMiss(7)}, "was learned for 7 joints, and .* has 4"),
        (lambda rows: rows, {"metric": "accuracy"}, "metric='accuracy' cannot score poses: .*pass 'pck', 'oks'"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_training(rows, tmp_path, spoil, keywords, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        make_trainer(tmp_path, spoil(rows), make_vitpose(), arguments=SHORT, **keywords).train()


@pytest.mark.parametrize("count", [1, 4])
def test_as_few_joints_as_one_train_with_boxes(tmp_path, count):
    rows = [row | {"box": torch.tensor([10.0, 20.0]), "area": torch.tensor(100.0)} for row in make_rows(80, 0, count)]
    options = {"normalise_by": "box", "threshold": 0.2}
    trainer = make_trainer(
        tmp_path, rows, Dots(count), Forced, SHORT, metric="pck", metric_options=options,
        compute_metrics=pose_compute_metrics(SIZE, **options), processing_class=make_processor(),
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    assert trainer.surrogate_in_force and 0 <= trainer.evaluate(rows[:9])["eval_pck"] <= 1
    assert (tmp_path / "preprocessor_config.json").is_file()


def test_a_slice_of_a_slice_is_not_augmented_either():
    persons = prepare_pose_features(make_persons(8), make_processor(), augment=True)
    held_out = KeypointsTask(make_vitpose(17), None).held_out(Subset(Subset(persons, range(6)), range(3)))
    assert len(held_out) == 3 and torch.equal(held_out[1]["keypoints"], held_out[1]["keypoints"])
