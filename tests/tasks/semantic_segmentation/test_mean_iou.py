"""Mean IoU by name: the values of `evaluate`, for one group or for many at once, and batch by batch in the Trainer."""

import time
import tracemalloc

import evaluate
import numpy as np
import pytest
import torch
from datasets import Features, Sequence, Value
from toy_pixels import NAMES, VOID, make_model, make_scenes, make_trainer
from transformers import EvalPrediction

from reloss_hf import GroupMetric, segmentation_compute_metrics
from reloss_hf.tasks.semantic_segmentation.metrics import MeanIouMetric

CLASSES = 5


def reference(predictions, references, num_labels, ignore_index, nan_to_num=None, label_map=None, reduce_labels=False):
    """The definition: intersection over union, and hits over gold pixels, of each class over all images; the means are
    over the classes that are not 0 / 0."""
    hits, union, gold = np.zeros(num_labels), np.zeros(num_labels), np.zeros(num_labels)
    for found, label in zip(predictions, references, strict=True):
        found, label = np.array(found), np.array(label)
        for old, new in (label_map or {}).items():
            label[label == old] = new
        if reduce_labels:
            label = np.where((label == 0) | (label == 255), 255, label - 1)
        found, label = found[label != ignore_index], label[label != ignore_index]
        for number in range(num_labels):
            hits[number] += ((found == number) & (label == number)).sum()
            union[number] += ((found == number) | (label == number)).sum()
            gold[number] += (label == number).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        iou, accuracy = hits / union, hits / gold
    result = {
        "mean_iou": np.nanmean(iou),
        "mean_accuracy": np.nanmean(accuracy),
        "overall_accuracy": hits.sum() / gold.sum(),
        "per_category_iou": iou,
        "per_category_accuracy": accuracy,
    }
    return result if nan_to_num is None else {k: np.nan_to_num(v, nan=nan_to_num) for k, v in result.items()}


def random_maps(images=6, size=(7, 9), seed=0):
    """Gold maps with void pixels, and predictions that keep most of them. Class 3 never occurs, class 4 is never
    gold."""
    draw = np.random.default_rng(seed)
    gold = draw.choice([0, 1, 2, 255], (images, *size), p=[0.6, 0.2, 0.1, 0.1])
    wrong = draw.choice([0, 1, 2, 4], gold.shape)
    return np.where((draw.random(gold.shape) < 0.7) & (gold != 255), gold, wrong), gold


OPTIONS = [
    {},
    {"nan_to_num": 0.0},
    {"ignore_index": 0},
    {"label_map": {1: 2, 2: 0}},
    {"reduce_labels": True},
    {"label_map": {2: 1}, "reduce_labels": True, "nan_to_num": -1.0},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_values_are_those_of_the_definition(options):
    predictions, references = random_maps()
    options = {"num_labels": CLASSES, "ignore_index": 255} | options
    found = MeanIouMetric(**options)(list(predictions), list(references))
    expected = reference(predictions, references, **options)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-12, err_msg=name)


def test_images_may_have_sizes_of_their_own():
    maps = [random_maps(1, size, seed) for seed, size in enumerate([(3, 4), (10, 2), (6, 6)])]
    predictions, references = ([pair[side][0] for pair in maps] for side in (0, 1))
    found = MeanIouMetric(CLASSES)(predictions, references)
    assert found["mean_iou"] == pytest.approx(reference(predictions, references, CLASSES, 255)["mean_iou"])
    with pytest.raises(ValueError, match=r"image 0 has predictions of the shape \(3, 4\), but references of \(10, 2\)"):
        MeanIouMetric(CLASSES)(predictions[:1], references[1:2])


@pytest.mark.parametrize("name", ["mean_iou", "mean_accuracy", "overall_accuracy"])
def test_many_groups_at_once_have_the_values_of_one_after_the_other(name):
    predictions, references = random_maps(images=12)
    groups = np.arange(12).reshape(4, 3)
    metric = GroupMetric(name, options={"num_labels": CLASSES})
    scores = metric(predictions, references, groups)
    assert scores == pytest.approx([metric(predictions, references, groups[[row]])[0] for row in range(4)])
    assert scores[1] == pytest.approx(reference(predictions[3:6], references[3:6], CLASSES, 255)[name])


def test_candidates_for_the_same_images_are_measured_by_the_classes_that_are_gold_there():
    predictions, references = random_maps()
    metric = MeanIouMetric(CLASSES, gold_only=True)
    iou = reference(predictions, references, CLASSES, 255)["per_category_iou"]
    assert metric(predictions, references)["mean_iou"] == pytest.approx(iou[:3].mean())
    assert MeanIouMetric(CLASSES)(predictions, references)["mean_iou"] == pytest.approx(np.append(iou[:3], 0).mean())


class MeanIou(evaluate.Metric):
    """The module of `evaluate`, so far as it is needed here."""

    def _info(self):
        maps = Sequence(Sequence(Value("uint16")))
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="", features=Features(predictions=maps, references=maps)
        )

    def _compute(self, predictions, references, num_labels, ignore_index):
        raise AssertionError("never asked, because it is computed here")


MeanIou.name = "mean_iou"


def test_the_module_of_evaluate_is_replaced():
    predictions, references = random_maps()
    metric = GroupMetric(MeanIou(), options={"num_labels": CLASSES, "ignore_index": 255})
    expected = reference(predictions, references, CLASSES, 255)["mean_iou"]
    assert metric(predictions, references, [range(6)])[0] == pytest.approx(expected)


def test_hundreds_of_candidates_take_well_under_a_second():
    draw = np.random.default_rng(0)
    predictions, references = draw.integers(0, 11, (2, 48 * 16, 1024))
    groups = np.arange(48 * 16).reshape(48, 16)
    metric = GroupMetric("mean_iou", options={"num_labels": 11})
    started = time.process_time()
    metric(predictions, references, groups)
    assert time.process_time() - started < 1


def test_images_that_are_drawn_many_times_are_counted_once():
    draw = np.random.default_rng(0)
    predictions, references = draw.integers(0, 11, (2, 200, 1024))
    metric, groups = GroupMetric("mean_iou", options={"num_labels": 11}), draw.integers(0, 200, (51, 200))
    tracemalloc.start()
    scores = metric(predictions, references, groups)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**24 < predictions[groups].nbytes / 4
    assert scores[3] == pytest.approx(metric(predictions, references, groups[[3]])[0])


@pytest.mark.parametrize("batches", [True, False])
def test_the_trainer_sums_counts_over_batches(tmp_path, batches):
    rows, model = make_scenes(20), make_model()
    seen, inner = [], segmentation_compute_metrics(model)

    def compute_metrics(prediction, compute_result=True):
        seen.append(len(prediction.label_ids))
        return inner(prediction, compute_result)

    arguments = {"surrogate_start": None, "batch_eval_metrics": batches, "per_device_eval_batch_size": 8}
    trainer = make_trainer(tmp_path, rows, model, arguments=arguments, compute_metrics=compute_metrics)
    found = [trainer.evaluate(rows) for _ in range(2)]
    assert found[0]["eval_mean_iou"] == found[1]["eval_mean_iou"]  # nothing of the first time is left
    assert seen == ([8, 8, 4] if batches else [20]) * 2
    with torch.no_grad():
        logits = model.eval()(rows["pixel_values"][:]).logits
    upsampled = torch.nn.functional.interpolate(logits, (16, 16), mode="bilinear", align_corners=False)
    expected = reference(upsampled.argmax(1), rows["labels"][:], len(NAMES), VOID)
    for name in ("mean_iou", "mean_accuracy", "overall_accuracy"):
        assert found[0][f"eval_{name}"] == pytest.approx(expected[name], abs=1e-3)
    of_classes = [found[0][f"eval_iou_{name}"] for name in NAMES]
    np.testing.assert_allclose(of_classes, expected["per_category_iou"], atol=1e-3)


def test_classes_are_taken_in_place_of_logits_if_they_have_the_size_of_the_masks():
    predictions, references = random_maps()
    model = make_model(names=[f"c{number}" for number in range(CLASSES)])
    compute = segmentation_compute_metrics(model)
    found = compute(EvalPrediction(predictions=predictions, label_ids=references), compute_result=True)
    assert found["mean_iou"] == pytest.approx(reference(predictions, references, CLASSES, 255)["mean_iou"])
    assert np.isnan(found["iou_c3"]) and found["iou_c4"] == 0
    with pytest.raises(ValueError, match=r"shape \(3, 9\) do not fit a mask of the shape \(7, 9\)"):
        compute(EvalPrediction(predictions=predictions[:, :3], label_ids=references))
