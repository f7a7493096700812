"""What is computed under the CTC lattice equals what the sum over all paths gives."""

import itertools

import pytest
import torch

from reloss_hf import CtcCosts, CtcLoss, CtcNgramLoss, ExpectedWerLoss
from reloss_hf.tasks.ctc.candidates import perturbed
from reloss_hf.tasks.ctc.lattice import (
    best_path,
    collapsed,
    emissions,
    few_classes,
    frames_needed,
    log_probabilities,
    loss_and_alignment,
    pair_counts,
    text_loss,
)

FRAMES, CLASSES = 5, 3


def make_features(seed=0, labels=((1, 2, 2), (1, -100, -100)), frames=(5, 4)):
    torch.manual_seed(seed)
    mask = torch.arange(FRAMES) < torch.tensor(frames).unsqueeze(1)
    logits = 2 * torch.randn(len(frames), FRAMES, CLASSES)
    return {"frame_logits": logits, "frame_mask": mask, "labels": torch.tensor(labels)}


def paths(features, row):
    """All paths of an utterance: their text, their probability and their classes."""
    frames = int(features["frame_mask"][row].sum())
    probs = features["frame_logits"][row].softmax(-1)
    for path in itertools.product(range(CLASSES), repeat=frames):
        text = [c for c, before in zip(path, (0, *path), strict=False) if c not in (0, before)]
        yield text, torch.stack([probs[t, c] for t, c in enumerate(path)]).prod(), path


def target(features, row):
    return [c for c in features["labels"][row].tolist() if c > 0]


def test_the_loss_of_a_text_is_the_sum_over_its_paths():
    features = make_features()
    for row in range(2):
        total = sum(p for text, p, _ in paths(features, row) if text == target(features, row))
        torch.testing.assert_close(text_loss(features)[row], -total.log())
    torch.testing.assert_close(CtcLoss()(features), text_loss(features) / torch.tensor([3.0, 1.0]))


def test_the_alignment_is_the_share_of_the_paths_of_the_target():
    features = make_features()
    found = loss_and_alignment(features)[1]
    for row in range(2):
        expected, total = torch.zeros(FRAMES, CLASSES), 0
        for text, p, path in paths(features, row):
            if text == target(features, row):
                total += p
                for t, c in enumerate(path):
                    expected[t, c] += p
        torch.testing.assert_close(found[row], expected / total, atol=1e-5, rtol=1e-4)


def test_expected_counts_are_means_over_the_paths():
    features = make_features(labels=((1, 2, 2, 1),) * 2)
    ends = torch.tensor([0.0, -torch.inf, -torch.inf])
    log_probs = torch.where(features["frame_mask"].unsqueeze(2), log_probabilities(features), ends)
    singles, pairs = emissions(log_probs).sum(1), pair_counts(log_probs, features["labels"])
    for row in range(2):
        expected, of_pairs = torch.zeros(CLASSES), torch.zeros(3)
        for text, p, _ in paths(features, row):
            for c in text:
                expected[c] += p
            for place, pair in enumerate(((1, 2), (2, 2), (2, 1))):
                of_pairs[place] += p * sum(pair == both for both in itertools.pairwise(text))
        torch.testing.assert_close(singles[row, 1:], expected[1:])
        torch.testing.assert_close(pairs[row], of_pairs)


def test_the_best_path_is_collapsed():
    path = torch.tensor([[1, 1, 0, 1, 2], [0, 2, 2, 0, 1]])
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    assert collapsed(path, mask).tolist() == [[1, 1, 2, 0, 0], [2, 0, 0, 0, 0]]
    logits = torch.nn.functional.one_hot(path, CLASSES).float()
    assert best_path({"frame_logits": logits, "frame_mask": mask}).equal(collapsed(path, mask))


def test_equal_neighbours_need_a_blank_between():
    assert frames_needed(torch.tensor([[1, 2, 2, -100], [1, -100, -100, -100]])).tolist() == [4, 1]


def test_expected_errors_are_those_of_the_frames():
    features = make_features(labels=((1, -100, -100),), frames=(5,))
    wanted, probs = loss_and_alignment(features)[1][0], features["frame_logits"][0].softmax(-1)
    deleted, substituted, inserted = torch.zeros(3)
    for excess in probs - wanted:
        deleted, inserted = deleted + excess[0].clamp(min=0) ** 2, inserted + excess[0].clamp(max=0) ** 2
        missing, given = (-excess[1:]).clamp(min=0).sum(), excess[1:].clamp(min=0).sum()
        substituted += min(missing, given) ** 2  # of characters that another has instead
    expected = torch.stack([CtcLoss()(features)[0], deleted, substituted, inserted])
    torch.testing.assert_close(CtcCosts().statistics(features)[0], expected)


def test_a_character_without_a_certain_place_is_no_error():
    probs = torch.tensor([[0.5, 0.5, 1e-9], [0.5, 0.5, 1e-9], [1.0, 1e-9, 1e-9]])
    probs = torch.stack([probs, torch.tensor([[1e-9, 1.0, 1e-9], [0.5, 0.5, 1e-9], [1.0, 1e-9, 1e-9]])])
    features = {"frame_logits": probs.log(), "frame_mask": torch.ones(2, 3, dtype=torch.bool)}
    logits = features["frame_logits"].requires_grad_(True)
    errors = CtcCosts().statistics(features | {"labels": torch.tensor([[1], [1]])})[:, 1:]
    (slope,) = torch.autograd.grad(errors.sum(), logits)
    for found in (errors, slope):
        assert found[0].abs().max() > 0.01  # the first character may be missing
        torch.testing.assert_close(found[1], torch.zeros_like(found[1]), atol=1e-5, rtol=0)


def sampled(features):
    samples = {
        "sample_labels": torch.tensor([[[1, 2, 2], [1, 2, 0], [1, 2, 2]]] * 2),
        "sample_mask": torch.tensor([[True, True, False]] * 2),
        "sample_errors": torch.tensor([[0.0, 1.0, 0.0]] * 2),
    }
    return features | samples


def test_expected_word_errors_weigh_distinct_texts_by_their_probability():
    features = sampled(make_features())
    right, wrong = (
        torch.stack([sum(p for text, p, _ in paths(features, row) if text == wanted) for row in range(2)])
        for wanted in ([1, 2, 2], [1, 2])
    )
    expected = wrong / (right + wrong) / torch.tensor([3, 1])
    torch.testing.assert_close(ExpectedWerLoss()(features), expected)


def test_the_share_of_ctc_in_the_costs_has_the_slope_of_ctc():
    slopes = []
    for values in (lambda features: CtcCosts().statistics(features)[:, 0], CtcLoss()):
        features = make_features(labels=((1, 2, 2), (2, 2, 2)))  # the second text has too few frames
        logits = features["frame_logits"].requires_grad_(True)
        slopes += torch.autograd.grad(values(features).sum(), logits)
    torch.testing.assert_close(*slopes)


LOSSES = [CtcLoss, CtcCosts, CtcNgramLoss, ExpectedWerLoss]


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_behind_the_end_changes_nothing(loss):
    features = sampled(make_features())
    other = features["frame_logits"] + 9 * torch.randn(2, FRAMES, CLASSES) * ~features["frame_mask"].unsqueeze(2)
    longer = torch.nn.functional.pad(features["labels"], (0, 2), value=-100)
    changed = loss()(features | {"frame_logits": other, "labels": longer})
    torch.testing.assert_close(loss()(features), changed)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_logits_and_texts_without_enough_frames_have_finite_losses(loss, dtype):
    logits = torch.tensor([-1e4, 0.0, 1e4]).repeat(2, FRAMES, 1).to(dtype)
    logits[0, 0, 1] = -torch.inf
    features = sampled(make_features(labels=((1, 2, 2, 1, 1), (2, 2, 2, 2, 2))) | {"frame_logits": logits})
    features["frame_logits"].requires_grad_(True)
    losses = loss()(features)
    assert losses.dtype == torch.float32 and losses.isfinite().all()
    (slope,) = torch.autograd.grad(losses.sum(), features["frame_logits"])
    assert slope.isfinite().all()


@pytest.mark.parametrize("loss", [CtcLoss, CtcNgramLoss, ExpectedWerLoss])  # the alignment of CtcCosts has no gradient
def test_slopes_are_those_of_small_differences(loss):
    features = sampled(make_features())
    logits = features["frame_logits"].requires_grad_(True)
    (slope,) = torch.autograd.grad(loss()(features).sum(), logits)
    direction = torch.randn_like(logits)
    up, down = (
        loss()(features | {"frame_logits": logits.detach() + sign * 1e-2 * direction}).sum() for sign in (1, -1)
    )
    torch.testing.assert_close((up - down) / 2e-2, (slope * direction).sum(), rtol=2e-2, atol=2e-3)


def test_a_higher_probability_of_what_the_alignment_wants_never_costs_more():
    loss = CtcCosts()
    loss.log_costs.data = torch.randn(4)
    features = make_features(labels=((1, 2, 2),), frames=(4,))  # one path alone
    wanted = loss_and_alignment(features)[1]
    logits = features["frame_logits"].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(features | {"frame_logits": logits}).sum(), logits)
    certain = wanted > 0.999
    assert certain.sum() == 4 and (slope[certain] < 0).all()


def test_candidates_are_other_texts_of_the_same_utterances():
    features = make_features(frames=(4, 3))
    copies = perturbed(features, 50, torch.Generator().manual_seed(0))
    assert copies["frame_logits"].shape == (100, 4, CLASSES)
    assert copies["labels"].view(50, 2, -1).eq(features["labels"]).all()
    texts = best_path(copies).view(50, 2, -1)
    assert len({tuple(text) for text in texts[:, 0].tolist()}) > 2
    again = perturbed(features, 50, torch.Generator().manual_seed(0))
    assert copies["frame_logits"].equal(again["frame_logits"])


def test_few_classes_of_each_utterance_say_what_all_of_them_say():
    torch.manual_seed(0)
    logits = torch.randn(2, FRAMES, 40)
    logits[0, :, 30:35], logits[1, :, [0, 7, 21, 39]] = 20.0, 20.0  # what is never said has no probability
    whole = {"frame_logits": logits + torch.randn(2, FRAMES, 40), "frame_mask": torch.ones(2, FRAMES).bool()}
    whole["labels"] = torch.tensor([[33, 31, 3, -100], [21, 7, 39, 7]])
    few = few_classes(whole, 8)
    assert few["frame_logits"].shape == (2, FRAMES, 8) and few["classes"][:, 0].eq(0).all()
    assert best_path(few).equal(best_path(whole))
    assert few["classes"].gather(1, few["labels"].clamp(min=0)).where(whole["labels"] > 0, -100).equal(whole["labels"])
    assert text_loss(few).tolist() == pytest.approx(text_loss(whole).tolist(), rel=1e-4)
    copies = perturbed(few, 50, torch.Generator().manual_seed(0))
    spoken = best_path(copies).view(50, 2, -1)
    assert len({tuple(text) for text in spoken[:, 1].tolist()}) > 2
    assert torch.isin(spoken[:, 0], few["classes"][0]).all()


def test_a_target_of_too_many_classes_counts_for_what_has_a_place():
    whole = make_features(labels=((1, 2, 2),), frames=(5,))
    few = few_classes(whole, 2)
    (kept,) = set(few["classes"][0].tolist()) - {0}
    assert few["labels"].tolist() == [[1] * (1 if kept == 1 else 2) + [-100] * (2 if kept == 1 else 1)]
