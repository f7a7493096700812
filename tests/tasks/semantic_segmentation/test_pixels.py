"""The losses on pixels, the sample that they are learned from, and its candidates."""

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, one_hot
from toy_pixels import make_model
from transformers import DPTConfig, UperNetConfig

from reloss_hf import (
    PixelCosts,
    PixelCrossEntropy,
    PixelDiceLoss,
    PixelFocalLoss,
    PixelJaccardLoss,
    PixelLovaszLoss,
    PixelSoftCounts,
    PixelWeightedCrossEntropy,
)
from reloss_hf.tasks.semantic_segmentation.candidates import perturbed
from reloss_hf.tasks.semantic_segmentation.pixels import KEPT_PIXELS, ignored_label, sampled, upsampled

CLASSES = 4


@pytest.fixture
def features():
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES - 1, (3, 5, 6), generator=draw)  # the last class never occurs
    labels[0, 2:], labels[2] = -100, -100
    return {"logits": torch.randn(3, 5, 6, CLASSES, generator=draw), "labels": labels}


@pytest.fixture
def flat(features):
    known = features["labels"] != -100
    return features["logits"][known], features["labels"][known]


LOSSES = {
    "costs": lambda: PixelCosts(CLASSES),
    "soft counts": lambda: PixelSoftCounts(CLASSES),
    "cross-entropy": PixelCrossEntropy,
    "weights": lambda: PixelWeightedCrossEntropy(weights=[1.0, 2, 3, 4]),
    "focal": PixelFocalLoss,
    "jaccard": PixelJaccardLoss,
    "dice": PixelDiceLoss,
    "lovasz": PixelLovaszLoss,
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_finite_float32_and_pixels_that_count_for_nothing_change_nothing(features, name):
    loss, values = LOSSES[name](), []
    for scale in (1, 1e4):
        logits = (scale * features["logits"]).requires_grad_(True)
        other = torch.where((features["labels"] == -100).unsqueeze(3), 7.0, logits)
        for given in (logits, other):
            of_images, of_batch = (compute(features | {"logits": given}) for compute in (loss, loss.batch_loss))
            assert of_images.shape == (3,) and of_images.dtype == of_batch.dtype == torch.float32
            (gradient,) = torch.autograd.grad(of_images.sum() + of_batch, logits)
            assert of_images.isfinite().all() and of_batch.isfinite() and gradient.isfinite().all()
            values.append((of_images, of_batch))
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[2], values[3])


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(features, name):
    loss = LOSSES[name]().double()
    small = {"logits": features["logits"][:2, :2, :3].double(), "labels": features["labels"][:2, :2, :3]}
    torch.manual_seed(0)
    direction, logits = torch.randn_like(small["logits"]), small["logits"].clone().requires_grad_(True)

    def value(given):  # in float32 within, so differences are wide
        return loss.batch_loss(small | {"logits": given}).double()

    (gradient,) = torch.autograd.grad(value(logits), logits)
    step = 1e-2
    difference = (value(logits + step * direction) - value(logits - step * direction)).item() / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(difference, rel=2e-2, abs=2e-4)


def test_hand_made_losses_equal_what_is_pasted_from_forums(features, flat):
    logits, gold = flat
    p, y = logits.softmax(1), one_hot(gold, CLASSES)
    torch.testing.assert_close(PixelCrossEntropy().batch_loss(features), nn.functional.cross_entropy(*flat))
    weights = torch.tensor([0.5, 1, 2, 4])
    pasted = nn.functional.cross_entropy(*flat, weights, reduction="none").mean()
    torch.testing.assert_close(PixelWeightedCrossEntropy(weights=weights).batch_loss(features), pasted)
    right = p[range(len(gold)), gold]
    torch.testing.assert_close(PixelFocalLoss(2).batch_loss(features), (-((1 - right) ** 2) * right.log()).mean())
    hits, predicted, found = (p * y).sum(0), p.sum(0), y.sum(0)
    jaccard = 1 - (hits / (predicted + found - hits))[:3].mean()
    torch.testing.assert_close(PixelJaccardLoss().batch_loss(features), jaccard)
    torch.testing.assert_close(PixelDiceLoss().batch_loss(features), 1 - (2 * hits / (predicted + found)).mean())


def test_soft_counts_see_a_class_of_one_pixel_in_a_thousand():
    """Missing it halves the mean IoU of two classes."""
    labels = torch.zeros(1, 20, 50, dtype=torch.long)
    labels[0, 0, 0] = 1
    loss = PixelSoftCounts(2)
    with torch.no_grad():
        loss.together.fill_(-20.0)  # no count of all classes together
    found, missed = (20.0 * one_hot(classes, 2) for classes in (labels, torch.zeros_like(labels)))
    values = [loss.batch_loss({"logits": logits, "labels": labels}) for logits in (found, missed)]
    assert values[1] - values[0] > 0.4


def test_the_lovasz_loss_is_the_mean_iou_of_certain_predictions(flat):
    _, gold = flat
    predicted = gold.roll(1)
    logits = 100.0 * one_hot(predicted, CLASSES).view(1, 1, -1, CLASSES)
    overlaps = []
    for number in gold.unique():
        either = (gold == number) | (predicted == number)
        overlaps.append(((gold == number) & (predicted == number)).sum() / either.sum())
    loss = PixelLovaszLoss().batch_loss({"logits": logits, "labels": gold.view(1, 1, -1)})
    torch.testing.assert_close(loss, 1 - torch.stack(overlaps).mean())


def test_costs_of_whole_images_are_those_of_their_statistics(features):
    loss = PixelCosts(CLASSES)
    loss.remainders.data = torch.randn(2, CLASSES)
    loss.shift.copy_(torch.randn(CLASSES))
    shifted = features | {"logits": features["logits"] - loss.shift}
    torch.testing.assert_close(loss(features), loss.of_statistics(loss.statistics(shifted)))


def test_weights_count_labelled_pixels(features):
    assert PixelCosts(CLASSES).weights(features).tolist() == [12, 30, 0]


def test_logits_are_upsampled_as_models_do():
    logits = torch.randn(2, CLASSES, 3, 4)
    expected = interpolate(logits, (12, 17), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    found = upsampled(logits, (12, 17))
    assert found.is_contiguous() and found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("config", "ignored"),
    [(UperNetConfig(loss_ignore_index=7), 7), (DPTConfig(semantic_loss_ignore_index=9), 9), (None, -100)],
)
def test_the_label_that_counts_for_nothing_is_that_of_the_configuration(config, ignored):
    model = nn.Linear(1, 1)
    if config is not None:
        model.config = config
    assert ignored_label(model) == ignored
    assert ignored_label(make_model()) == 255


def test_what_is_kept_of_an_image_is_bounded_and_drawn_by_its_own_seed():
    logits, masks = torch.randn(5, CLASSES, 16, 20), torch.randint(0, CLASSES, (5, 64, 80))
    masks[1, 1:], masks[3] = -100, -100
    kept, labels = sampled(logits, masks, range(5))
    assert kept.numel() * kept.element_size() == 4 * KEPT_PIXELS * CLASSES * 4  # images, pixels, classes, bytes
    assert labels.shape == kept.shape[:3] == (4, KEPT_PIXELS, 1) and (labels >= 0).all()
    alone, of_one = sampled(logits[4:], masks[4:], [4])
    assert torch.equal(alone[0], kept[3]) and torch.equal(of_one[0], labels[3])
    whole = upsampled(logits, (64, 80))
    for image, number in ((0, 0), (1, 1)):
        pixels = torch.cat([whole[image].flatten(0, 1), masks[image].flatten().unsqueeze(1)], 1)
        found = torch.cat([kept[number, :, 0], labels[number].float()], 1).unique(dim=0)
        assert len(found) == (KEPT_PIXELS, 80)[number]  # each once, or all that are labelled
        assert (found[:, None] == pixels).all(2).any(1).all()


def test_candidates_are_those_of_one_image_after_another_and_vary_in_classes():
    features = {"logits": torch.randn(3, 50, 1, CLASSES), "labels": torch.randint(0, CLASSES, (3, 50, 1))}
    copies = perturbed(features, 20, torch.Generator().manual_seed(0))
    assert copies["logits"].shape == (60, 50, 1, CLASSES)
    assert torch.equal(copies["labels"].view(20, 3, 50, 1)[7], features["labels"])
    moved = copies["logits"].view(20, 3, 50, CLASSES) - features["logits"].squeeze(2)
    assert 0.2 < moved.std() < 0.7
    assert (moved.mean((1, 2)).std(0) > 0.1).all()  # each class is shifted
    assert (moved.mean(2).std(1).mean() > 0.02) and (moved.std(2).mean() > 0.02)  # so are images and pixels
