"""Losses on heatmaps: their formulas, their slopes, and what changes them."""

from itertools import pairwise

import pytest
import torch

from reloss_hf import (
    ExpectedMiss,
    GatedSquaredError,
    HardKeypointMining,
    HeatmapCrossEntropy,
    KeypointSquaredError,
    LogExpectedMiss,
    SoftArgmaxLoss,
    SurrogateLoss,
)
from reloss_hf.tasks.keypoints.candidates import perturbed
from reloss_hf.tasks.keypoints.heatmaps import peaks
from reloss_hf.tasks.keypoints.losses import squared_errors, targets_of

JOINTS = 4
NAMES = ("left_hand", "right_hand", "head", "foot")
LEARNED = (ExpectedMiss, LogExpectedMiss, GatedSquaredError)
LOSSES = [
    *(lambda cls=cls: cls(JOINTS) for cls in LEARNED),
    KeypointSquaredError,
    HeatmapCrossEntropy,
    HardKeypointMining,
    SoftArgmaxLoss,
]


def make_features(count=3, shape=(16, 12), seed=0, visible=True):
    draw = torch.Generator().manual_seed(seed)
    height, width = shape
    size = torch.tensor([4.0 * width, 4.0 * height])
    features = {
        "keypoints": (size - 1) * (0.1 + 0.8 * torch.rand(count, JOINTS, 2, generator=draw)),
        "visible": torch.rand(count, JOINTS, generator=draw) < 0.7,
        "input_size": size.expand(count, 2),
        "heatmap_sigma": torch.full((count,), width / 8),
    }
    if visible:
        features["visible"] |= True
    noise = 0.1 * torch.rand(count, JOINTS, height, width, generator=draw)
    return features | {"heatmaps": 0.7 * targets_of(features | {"heatmaps": noise}) + noise}


def test_the_squared_error_is_that_of_a_gaussian_with_an_unbiased_centre():
    features = make_features()
    target = torch.zeros(3, JOINTS, 16, 12)
    for example in range(3):
        for joint in range(JOINTS):
            x, y = features["keypoints"][example, joint] / torch.tensor([47 / 11, 63 / 15])
            for row in range(16):
                for column in range(12):
                    distance = (row - y) ** 2 + (column - x) ** 2
                    target[example, joint, row, column] = (-distance / (2 * 1.5**2)).exp()
    expected = (features["heatmaps"] - target).square().mean((1, 2, 3))
    torch.testing.assert_close(KeypointSquaredError()(features), expected)
    assert (peaks(target).float() - features["keypoints"] / torch.tensor([47 / 11, 63 / 15])).abs().max() < 0.3


def test_the_expected_miss_is_that_of_its_formula():
    features, loss = make_features(1), ExpectedMiss(JOINTS)
    loss.sharpness.data[:] = torch.tensor([-99.0, -99.0, 0.0, -99.0])  # 16
    loss.radius.data[:] = torch.tensor([-99.0, -99.0, -99.0, 0.0, -99.0])  # 0.16
    loss.blend.data.fill_(-99.0)  # a share of 0.2
    chances = (16 * features["heatmaps"]).flatten(2).softmax(2).view(1, JOINTS, 16, 12)
    keypoints, misses = features["keypoints"][0], []
    radius = 0.16 * (keypoints.amax(0) - keypoints.amin(0)).max()
    for joint in range(JOINTS):
        x, y = keypoints[joint]
        squares = (torch.arange(16)[:, None] * 4.2 - y) ** 2 + (torch.arange(12) * 47 / 11 - x) ** 2
        misses.append(1 - (chances[0, joint] * 2 ** (-squares / radius**2)).sum())
    expected = 0.8 * torch.stack(misses) + 0.2 * squared_errors(features)[0] / 0.01
    torch.testing.assert_close(loss(features)[0], expected.mean(), rtol=2e-2, atol=0)


@pytest.mark.parametrize("make", LOSSES)
def test_hidden_joints_change_nothing_and_have_no_slope(make):
    features, loss = make_features(visible=False), make()
    assert 0 < features["visible"].sum() < features["visible"].numel()
    heatmaps = features["heatmaps"].clone().requires_grad_(True)
    values = loss(features | {"heatmaps": heatmaps})
    (slope,) = torch.autograd.grad(values.sum(), heatmaps)
    assert not slope[~features["visible"]].any() and slope[features["visible"]].abs().amax((1, 2)).gt(0).any()
    other = torch.where(features["visible"][:, :, None, None], features["heatmaps"], torch.rand(3, JOINTS, 16, 12))
    torch.testing.assert_close(loss(features | {"heatmaps": other}), values.detach())
    assert loss.weights(features).tolist() == features["visible"].sum(1).tolist()


@pytest.mark.parametrize("make", LOSSES)
def test_a_person_without_labelled_joints_costs_nothing(make):
    features = make_features()
    features["visible"] = torch.zeros(3, JOINTS, dtype=torch.bool)
    heatmaps = features["heatmaps"].requires_grad_(True)
    value = make().batch_loss(features)
    assert value == 0 and torch.autograd.grad(value, heatmaps)[0].abs().max() == 0


@pytest.mark.parametrize("make", LOSSES)
def test_slopes_are_those_of_finite_differences(make):
    features = {k: v.double() if v.is_floating_point() else v for k, v in make_features(2, (6, 5)).items()}
    loss = make().double()
    heatmaps = features["heatmaps"].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss.score(features | {"heatmaps": heatmaps}).sum(), heatmaps)
    direction = torch.randn(heatmaps.shape, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    ends = [loss.score(features | {"heatmaps": heatmaps.detach() + step * direction}) for step in (1e-5, -1e-5)]
    torch.testing.assert_close((slope * direction).sum(), (ends[0] - ends[1]).sum() / 2e-5, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("cls", [ExpectedMiss, LogExpectedMiss])
def test_a_higher_heatmap_at_the_gold_place_never_costs_more(cls):
    for seed in range(4):
        features = make_features(seed=seed)
        features["heatmaps"] = (features["heatmaps"] + 0.3 * torch.randn(3, JOINTS, 16, 12)).clamp(max=0.6)
        loss = cls(JOINTS)
        for weight in loss.parameters():
            weight.data += torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        heatmaps = features["heatmaps"].clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(features | {"heatmaps": heatmaps}).sum(), heatmaps)
        places = (features["keypoints"] / torch.tensor([47 / 11, 63 / 15])).round().long()
        at_gold = slope[torch.arange(3)[:, None], torch.arange(JOINTS), places[..., 1], places[..., 0]]
        assert (at_gold <= 1e-7).all() and (at_gold < 0).any()


@pytest.mark.parametrize("make", LOSSES)
def test_one_loss_fits_heatmaps_of_any_size(make):
    values = []
    for factor in (2, 4):
        features = make_features(1, (16 * factor, 12 * factor), seed=3)
        features["heatmaps"] = 0.8 * targets_of(features)
        values.append(make()(features))
    torch.testing.assert_close(values[0], values[1], rtol=0.25, atol=0.02)


@pytest.mark.parametrize("cls", LEARNED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_finite_losses_and_slopes(cls, dtype):
    features = make_features()
    heatmaps = (100 * features["heatmaps"]).to(dtype).requires_grad_(True)
    value = cls(JOINTS).batch_loss(features | {"heatmaps": heatmaps})
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and heatmaps.grad.isfinite().all()


@pytest.mark.parametrize("cls", LEARNED)
def test_statistics_make_the_loss_and_are_saved_with_it(cls, tmp_path):
    features, loss = make_features(5, visible=False), cls(JOINTS)
    features["heatmaps"].requires_grad_(True)
    loss.observe(features)
    assert not any(value.requires_grad for value in loss.buffers())
    for weight in loss.parameters():
        weight.data += 0.5
    mean = torch.einsum("n,n...->...", loss.weights(features), loss.statistics(features)) / features["visible"].sum()
    torch.testing.assert_close(loss.log_scale.exp() * loss.of_statistics(mean), loss.batch_loss(features))
    loss.save_pretrained(tmp_path)
    torch.testing.assert_close(SurrogateLoss.from_pretrained(tmp_path)(features), loss(features))
    with pytest.raises(ValueError, match="is for 3 joints, but there are heatmaps of 4: learn it again"):
        cls(3)(features)


@pytest.mark.parametrize("cls", LEARNED)
def test_copies_have_the_mean_statistics_of_each(cls):
    features, loss = make_features(5, visible=False), cls(JOINTS)
    copies = perturbed(features, 3, torch.Generator().manual_seed(0), 1.0, NAMES)
    parts = [{name: value[5 * copy : 5 * copy + 5] for name, value in copies.items()} for copy in range(3)]
    expected = torch.stack([loss.mean_statistics(part) for part in parts])
    torch.testing.assert_close(loss.mean_statistics_of_copies(copies, 3), expected)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


@pytest.mark.parametrize("cls", [ExpectedMiss, LogExpectedMiss])
def test_probability_that_moves_nearer_to_the_gold_place_never_costs_more(cls):
    features, loss = make_features(), cls(JOINTS)
    loss.blend.data.fill_(-99.0)
    places = features["keypoints"] / torch.tensor([47 / 11, 63 / 15])
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(12.0), indexing="ij")
    distances = (y - places[..., 1, None, None]).square() + (x - places[..., 0, None, None]).square()
    order = distances.flatten(2).argsort(2)
    values = []
    for near in (150, 60, 20, 5, 0):  # one peak, ever nearer
        heatmaps = torch.zeros(3, JOINTS, 16 * 12).scatter(2, order[:, :, near, None], 1.0).unflatten(2, (16, 12))
        misses = loss.statistics(features | {"heatmaps": heatmaps})[:, :-1]
        values.append(misses)
    assert all((after <= before + 1e-6).all() for before, after in pairwise(values))
    assert (values[-1] < values[0]).any()


def test_online_hard_keypoint_mining_counts_the_joints_with_the_largest_errors():
    features = make_features(2)
    features["visible"][1, :3] = False
    errors = squared_errors(features).sort(1, descending=True).values
    expected = torch.stack([errors[0, :2].mean(), squared_errors(features)[1, 3]])
    torch.testing.assert_close(HardKeypointMining(0.5)(features), expected)
    with pytest.raises(ValueError, match="share=0 must be above 0"):
        HardKeypointMining(0)


def test_candidates_are_of_the_same_images_and_differ_by_the_strength():
    features = make_features(6)
    copies = {}
    for strength in (0.1, 1.0, 3.0):
        copies[strength] = perturbed(features, 8, torch.Generator().manual_seed(0), strength, NAMES)
        assert all(len(value) == 48 for value in copies[strength].values())
        assert torch.equal(copies[strength]["keypoints"], features["keypoints"].repeat(8, 1, 1))
    again = perturbed(features, 8, torch.Generator().manual_seed(0), 1.0, NAMES)
    assert torch.equal(copies[1.0]["heatmaps"], again["heatmaps"])
    moves = [
        (peaks(found["heatmaps"]) - peaks(features["heatmaps"]).repeat(8, 1, 1)).norm(dim=2).mean()
        for found in copies.values()
    ]
    assert moves[0] < moves[1] < moves[2] and moves[0] < 0.5


def test_left_and_right_are_exchanged_in_some_candidates():
    features = make_features(40)
    copies = perturbed(features, 10, torch.Generator().manual_seed(0), 3.0, NAMES)
    found, own = peaks(copies["heatmaps"]), peaks(features["heatmaps"]).repeat(10, 1, 1)
    far = (own[:, 0] - own[:, 1]).norm(dim=1) > 5
    exchanged = far & ((found[:, 0] - own[:, 1]).norm(dim=1) < 1.5)
    assert 0.01 < exchanged.float().mean() < 0.3
    nameless = peaks(perturbed(features, 10, torch.Generator().manual_seed(0), 3.0)["heatmaps"])
    assert ((nameless[:, 0] - own[:, 1]).norm(dim=1)[far] < 1.5).float().mean() < exchanged.float().mean()
