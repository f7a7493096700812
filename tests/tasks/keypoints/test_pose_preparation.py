"""Persons are cut out as the image processor cuts them out, and left and right are exchanged in mirrored images."""

import io

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset
from toy_poses import make_trainer, make_vitpose

from reloss_hf import prepare_pose_features

PAIRS = [(0, 1)]  # of four joints


def picture(width=40, height=30, seed=0):
    """Smooth, so that interpolation makes no difference."""
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def dots(keypoints, width=60, height=50):
    """A white dot at each joint on black."""
    y, x = np.mgrid[:height, :width]
    squares = [(x - place[0]) ** 2 + (y - place[1]) ** 2 for place in keypoints]
    return Image.fromarray((255 * np.exp(-np.min(squares, 0) / 8)).astype(np.uint8)).convert("RGB")


def row(**changes):
    keypoints = [[10.0, 12], [30, 10], [20, 25], [33, 40]]
    return {"image": dots(keypoints), "keypoints": keypoints, "visible": [1, 1, 1, 0]} | changes


def test_a_person_is_cut_out_as_by_the_image_processor():
    pytest.importorskip("scipy")
    processors = pytest.importorskip("transformers.models.vitpose.image_processing_pil_vitpose")
    processor = processors.VitPoseImageProcessorPil(size={"height": 32, "width": 24})
    rows = [row(image=picture(), bbox=[8.0, 5.0, 14.0, 12.0]), row(image=picture(), bbox=[5.0, 8.0, 25.0, 7.0])]
    ours = prepare_pose_features(rows, processor)
    for number, given in enumerate(rows):
        theirs = processor([given["image"]], boxes=[[given["bbox"]]], return_tensors="pt")["pixel_values"][0]
        difference = (ours[number]["pixel_values"] - theirs).abs()
        assert difference[:, 3:-3, 3:-3].median() < 0.02 and difference.mean() < 0.1 < theirs.std()


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("box", [None, [5.0, 5.0, 35.0, 40.0]])
def test_joints_lie_on_the_same_pixels_as_before(augment, box):
    rows = [row(bbox=box, visible=[1, 1, 1, 1])]
    features = prepare_pose_features(rows, size=(64, 48), augment=augment, flip_pairs=PAIRS)
    torch.manual_seed(0)
    for _ in range(6):
        found = features[0]
        for x, y in found["keypoints"].round().long().tolist():
            if 1 < x < 46 and 1 < y < 62:
                assert found["pixel_values"][0, y - 1 : y + 2, x - 1 : x + 2].max() > 0.8


def test_left_and_right_are_exchanged_in_mirrored_images():
    features = prepare_pose_features([row()], size=(50, 60), augment=True, flip_pairs=PAIRS)
    torch.manual_seed(0)
    sides = {(found["keypoints"][0, 0] < found["keypoints"][1, 0]).item() for found in (features[0] for _ in range(20))}
    assert sides == {True}  # the left hand stays on the left of the picture
    plain = prepare_pose_features([row()], size=(50, 60), augment=True, flip_pairs=[])
    assert {
        (found["keypoints"][0, 0] < found["keypoints"][1, 0]).item() for found in (plain[0] for _ in range(20))
    } == {
        True,
        False,
    }


def test_the_same_seed_changes_images_in_the_same_way():
    features = prepare_pose_features([row()], size=(50, 60), augment=True, flip_pairs=PAIRS)
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(features[0]["keypoints"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_columns_of_coco_and_plain_ones_mean_the_same():
    flat = [value for (x, y), v in zip(row()["keypoints"], (2, 1, 2, 0), strict=True) for value in (x, y, v)]
    coco = {"image": row()["image"], "keypoints": flat, "bbox": [5, 5, 30, 40], "area": 600.0, "dataset_index": 2}
    plain = row(bbox=[5, 5, 30, 40])
    left, right = (prepare_pose_features([one], size=(64, 48), flip_pairs=PAIRS)[0] for one in (coco, plain))
    both = prepare_pose_features([coco | {"visible": [1, 1, 1, 0]}], size=(64, 48), flip_pairs=PAIRS)[0]
    assert all(torch.equal(both[name], left[name]) for name in left)
    assert torch.equal(left["keypoints"], right["keypoints"]) and left["visible"].tolist() == [True, True, True, False]
    scale = left["box"][0] / 30
    assert left["area"].item() == pytest.approx(600 * scale.item() ** 2)
    assert right["area"].item() == pytest.approx(0.53 * 1200 * scale.item() ** 2)
    assert left["dataset_index"] == 2 and left["heatmap_sigma"] == 2 and "dataset_index" not in right


def test_images_may_be_stored_as_bytes_or_files(tmp_path):
    row()["image"].save(tmp_path / "person.png")
    stored = io.BytesIO()
    row()["image"].save(stored, "PNG")
    rows = datasets.Dataset.from_list([row() | {"image": {"bytes": stored.getvalue(), "path": None}}])
    for given in (
        rows,
        rows.cast_column("image", datasets.Image()),
        [row(image=str(tmp_path / "person.png"))],
        [row(image=np.asarray(row()["image"]))],
    ):
        features = prepare_pose_features(given, size=(50, 60), flip_pairs=PAIRS)
        assert len(features) == 1 and features[0]["pixel_values"].max() > 0.9
        assert "box" not in features[0]


def test_a_slice_that_is_held_out_is_not_augmented(tmp_path):
    rows = [row(image=picture(seed=number)) for number in range(60)]
    train = prepare_pose_features(rows, size=(32, 24), augment=True, flip_pairs=PAIRS, sigma=1.0)
    trainer = make_trainer(tmp_path, train, make_vitpose(), metric="pck", metric_options={"normalise_by": "box"})
    held_out = trainer.learning.dataset
    assert isinstance(held_out, Subset) and len(held_out) == 24 and trainer.train_dataset.dataset.augment
    assert torch.equal(held_out[0]["keypoints"], held_out[0]["keypoints"])
    batch = trainer.data_collator([train[0], train[1]])
    features = trainer.task.features(trainer.model, trainer.model(batch["pixel_values"]), batch, ())
    assert features["heatmap_sigma"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("rows", "keywords", "message"),
    [
        ([], {"size": (8, 8)}, "rows is empty"),
        ([{"image": 1}], {"size": (8, 8)}, r"rows have no columns \['keypoints'\], only \['image'\]"),
        ([row()], {}, "size=None and processor=None"),
        ([row()], {"size": (8, 8), "sigma": 0}, "sigma=0 must be above 0"),
        (
            [row()],
            {"size": (8, 8), "augment": True},
            "of 4 joints are unknown: pass names=, or the pairs",
        ),
        ([row()], {"size": (8, 8), "flip_pairs": [(0, 7)]}, r"flip_pairs=\[\(0, 7\)\] do not fit 4 joints"),
        ([row(keypoints=[[1.0], [2.0]])], {"size": (8, 8)}, r"keypoints of the shape \(2, 1\) in row 0"),
        ([row(visible=[1, 1])], {"size": (8, 8)}, "row 0 has 4 joints in 'keypoints', but 'visible'"),
        ([row()], {"size": (8, 8), "names": ("left_hand", "right_hand")}, "there are 2 names, but 4 joints in row 0"),
    ],
)
def test_bad_rows_are_refused(rows, keywords, message):
    with pytest.raises(ValueError, match=message):
        prepare_pose_features(rows, **keywords)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"keypoints": [[np.nan, 1], [1, 2], [3, 4], [5, 6]]},
            "row 0 has visible joints whose keypoints are not finite",
        ),
        ({"bbox": [5.0, 5, 0, 10]}, r"bbox=\[5.0, 5.0, 0.0, 10.0\] in row 0 must be left, top, width and height"),
        ({"bbox": [5.0, 5]}, "in row 0 must be left, top, width and height"),
        ({"image": np.zeros((3, 8, 9), np.uint8)}, r"image in row 0 is an array of uint8 of the shape \(3, 8, 9\)"),
        ({"image": np.zeros((8, 9, 3))}, "image in row 0 is an array of float64 .*: pass uint8"),
    ],
)
def test_bad_values_in_a_row_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        prepare_pose_features([row(**changes)], size=(8, 8))[0]


def test_rows_need_the_same_joints():
    features = prepare_pose_features([row(), row(keypoints=[[1.0, 2]], visible=[1])], size=(8, 8), flip_pairs=PAIRS)
    with pytest.raises(ValueError, match="row 1 has 1 joints, but row 0 has 4"):
        features[1]
