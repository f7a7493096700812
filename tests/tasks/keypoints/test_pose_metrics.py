"""PCK and OKS by name: cases counted by hand, and many groups at once."""

import numpy as np
import pytest
from transformers import EvalPrediction

from reloss_hf import GroupMetric, pose_compute_metrics
from reloss_hf.tasks.keypoints.joints import COCO_SIGMAS
from reloss_hf.tasks.keypoints.metrics import CorrectKeypoints, KeypointSimilarity, references_of

# A torso from (0, 0) to (0, 10), and two other joints.
GOLD = np.array([[[0.0, 0], [0, 10], [20, 0], [30, 40]]])
TORSO = {"torso": [(0, 1)]}


def one(metric, distances, visible=(1, 1, 1, 1), **sizes):
    moved = GOLD + np.array(distances)[None, :, None] * [1.0, 0.0]
    return metric(moved.tolist(), references_of(GOLD, np.array([visible]), **sizes))


@pytest.mark.parametrize(
    ("options", "visible", "expected"),
    [
        ({"threshold": 0.2} | TORSO, (1, 1, 1, 1), 0.5),  # at most 2 away: of 0, 2, 3 and 9
        ({"threshold": 0.3} | TORSO, (1, 1, 1, 1), 0.75),
        ({"threshold": 0.3} | TORSO, (1, 1, 1, 0), 1.0),
        ({"threshold": 0.2, "torso": [(0, 1), (0, 2)]}, (1, 1, 1, 1), 0.75),  # the mean of 10 and 20
        ({"threshold": 0.2, "torso": [(0, 1), (0, 2)]}, (1, 1, 0, 1), 2 / 3),  # of the pair that is labelled
        ({"threshold": 0.1, "normalise_by": "box"}, (1, 1, 1, 1), 0.75),  # the box is 30 by 40
        ({"threshold": 0.5, "normalise_by": "head", "head": [(0, 2)]}, (1, 1, 1, 1), 1.0),
    ],
)
def test_correct_keypoints_are_counted(options, visible, expected):
    assert one(CorrectKeypoints(**options), (0, 2, 3, 9), visible) == pytest.approx(expected)


def test_a_person_whose_size_is_not_known_does_not_count():
    references = references_of(np.repeat(GOLD, 2, 0), np.array([[1, 0, 1, 1], [1, 1, 1, 1]]))
    predictions = [(GOLD[0] + 50).tolist(), GOLD[0].tolist()]
    assert CorrectKeypoints(**TORSO)(predictions, references) == 1
    assert np.isnan(CorrectKeypoints(**TORSO)(predictions[:1], references[:1]))


def test_similarity_is_that_of_its_formula():
    found = one(KeypointSimilarity([0.1, 0.2, 0.1, 0.1]), (0, 2, 3, 9), (1, 1, 1, 0), areas=np.array([100.0]))
    parts = [1, np.exp(-(2**2) / (2 * 100 * 0.4**2)), np.exp(-(3**2) / (2 * 100 * 0.2**2))]
    assert found["oks"] == pytest.approx(np.mean(parts))  # 0.74
    assert found["ap"] == pytest.approx(0.5)  # 0.5 to 0.7 of ten thresholds
    assert (found["ap_50"], found["ap_75"]) == (1, 0)


def test_the_area_is_a_share_of_the_box_if_it_is_not_known():
    (reference,) = references_of(GOLD, np.array([[1, 1, 1, 0]]))
    assert reference["box"] == [20, 10] and reference["area"] == pytest.approx(0.53 * 200)
    assert reference["keypoints"][3] == [0, 0, 0]


def random_poses(count, joints, seed=0):
    draw = np.random.default_rng(seed)
    gold, visible = draw.uniform(0, 100, (count, joints, 2)), draw.random((count, joints)) < 0.8
    return gold + draw.normal(0, 8, gold.shape), references_of(gold, visible)


@pytest.mark.parametrize("joints", [14, 17])
@pytest.mark.parametrize(("name", "options"), [("pck", {}), ("pck", {"normalise_by": "head"}), ("oks", {})])
def test_many_groups_at_once_have_the_scores_of_each(joints, name, options):
    predictions, references = random_poses(80, joints)
    metric, groups = GroupMetric(name, options=options), np.arange(80).reshape(8, 10)
    at_once = metric(predictions, references, groups)
    one_by_one = [metric(predictions, references, group[None])[0] for group in groups]
    assert at_once == pytest.approx(np.array(one_by_one))
    assert 0.05 < at_once.min() < at_once.max() < 1


def test_a_part_of_the_result_can_be_learned():
    predictions, references = random_poses(40, 17)
    groups = np.arange(40).reshape(4, 10)
    scores = {key: GroupMetric("oks", key)(predictions, references, groups) for key in ("oks", "ap", "ap_50")}
    assert (scores["ap"] < scores["ap_50"]).all() and GroupMetric("oks").key is None
    assert GroupMetric("oks")(predictions, references, groups).tolist() == scores["oks"].tolist()


def test_average_precision_is_that_of_pycocotools():
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    predictions, references = random_poses(20, 17)
    found = []
    for pose, reference in zip(predictions, references, strict=True):
        flat = [value for x, y, v in reference["keypoints"] for value in (x, y, 2 * v)]
        known = sum(place[2] > 0 for place in reference["keypoints"])
        row = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "keypoints": flat, "num_keypoints": known}
        truth = coco.COCO()
        truth.dataset = {
            "info": {}, "images": [{"id": 1}], "categories": [{"id": 1, "name": "person"}],
            "annotations": [row | {"area": reference["area"], "bbox": [0, 0, *reference["box"]]}],
        }  # fmt: skip
        truth.createIndex()
        guess = [value for place in pose.tolist() for value in (*place, 1.0)]
        results = truth.loadRes([{"image_id": 1, "category_id": 1, "keypoints": guess, "score": 1.0}])
        run = evaluation.COCOeval(truth, results, "keypoints")
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.evaluate()
        run.accumulate()
        found.append(run.eval["precision"][..., 0].mean())
    assert KeypointSimilarity()(predictions, references)["ap"] == pytest.approx(np.mean(found), abs=1e-3)


def test_compute_metrics_takes_heatmaps_or_places():
    heatmaps = np.zeros((2, 14, 8, 8), dtype=np.float32)
    heatmaps[:, range(14), range(7, -7, -1), 3] = 1
    gold = np.array([[[9.0, 3 * row] for row in (*range(7, -1, -1), *range(7, 1, -1))]] * 2)
    size = (22, 22)  # 3 pixels for each of the heatmap
    compute = pose_compute_metrics(size, normalise_by="box")
    visible = np.ones((2, 14))
    found = compute(EvalPrediction(gold + 0.1, (gold, visible, np.full((2, 2), 20.0), np.full(2, 200.0))))
    assert found["pck"] == 1 and 0.9 < found["oks"] < 1 and set(found) == {"pck", "oks", "ap", "ap_50", "ap_75"}
    assert compute(EvalPrediction(heatmaps, (gold, visible)))["pck"] > 0.5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pck", {}, r"the torso of 4 joints is unknown: pass metric_options=\{'torso': \[\(first, second\)\]\}"),
        ("pck", {"torso": [(0, 9)]}, "names joints beyond the 4"),
        ("pck", {"threshold": 0}, "threshold=0 must be above 0"),
        ("pck", {"normalise_by": "arm"}, "normalise_by='arm' must be 'torso', 'head' or 'box'"),
        ("pck", {"treshold": 0.1}, "'pck' has no option 'treshold'; it accepts .*'threshold'"),
        ("pck", {"torso": (2, 3)}, r"torso=\(2, 3\) must be pairs of the numbers of joints"),
        ("pck", {"torso": [("neck", "hip")]}, r"must be pairs of the numbers of joints, such as \[\(2, 9\)\]"),
        ("pck", {"head": []}, r"head=\[\] must be pairs"),
        ("oks", {"sigmas": COCO_SIGMAS}, "there are 17 sigmas for 4 joints"),
        ("oks", {"sigmas": [0.1, 0.1, 0, 0.1]}, r"sigmas=\[0.1, 0.1, 0, 0.1\] must all be above 0"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        metric = GroupMetric(name, options=options)
        metric(GOLD.repeat(4, 0), references_of(GOLD.repeat(4, 0), np.ones((4, 4))), np.arange(4).reshape(2, 2))


def test_visible_joints_need_a_place():
    with pytest.raises(ValueError, match="keypoints of visible joints are not finite: set 'visible' to 0"):
        references_of(GOLD * np.nan, np.ones((1, 4)))
    (reference,) = references_of(np.where([[[1], [1], [1], [0]]], GOLD, np.nan), np.array([[1, 1, 1, 0]]))
    assert reference["box"] == [20, 10] and reference["keypoints"][3] == [0, 0, 0]


def test_a_torso_without_length_does_not_count():
    gold = np.concatenate([GOLD, GOLD])
    gold[0, 1] = gold[0, 0]
    predictions = [(gold[0] + 99).tolist(), gold[1].tolist()]
    assert CorrectKeypoints(**TORSO)(predictions, references_of(gold, np.ones((2, 4)))) == 1


def test_references_of_another_format_are_named():
    with pytest.raises(ValueError, match="a reference is .*and not a dict of 'keypoints', 'box' and 'area'"):
        CorrectKeypoints()([[[0, 0]]], [1])
