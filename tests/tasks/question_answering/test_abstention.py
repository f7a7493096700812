"""Costs of errors when a model may abstain: their loss, and how they are learned."""

import pytest
import torch
from toy_abstention import as_predictions, drawn

from reloss_hf import AbstentionCosts, AnswersCrossEntropy, CandidateLearner, GroupMetric, SurrogateLoss


def with_costs(*logarithms):
    loss = AbstentionCosts()
    with torch.no_grad():
        loss.log_costs.copy_(torch.tensor(logarithms))
    return loss


def test_with_equal_costs_it_is_cross_entropy_with_all_answers():
    features = drawn(50)
    features["gold_spans"] = features["gold_spans"].repeat(1, 3, 1)
    answered = features["gold_spans"][:, 0, 0] > 0
    features["gold_spans"][answered, 1] = torch.tensor([3, 4])
    torch.testing.assert_close(AbstentionCosts()(features), AnswersCrossEntropy()(features))


def test_costs_are_a_weight_for_each_kind_of_error():
    loss, features = with_costs(0.6, -0.8, 0.3), drawn(20)
    answering, abstaining, wrong = loss.costs
    probabilities, expected = features["start_log_probs"].exp(), []
    for row, gold in zip(probabilities, features["gold_spans"][:, 0, 0].tolist(), strict=True):
        there = -abstaining * (1 - row[0]).log() - wrong * (row[gold] / (1 - row[0])).log()
        expected.append(-answering * row[0].log() if gold == 0 else there)
    torch.testing.assert_close(loss(features), torch.stack(expected))
    assert loss.costs.log().sum().abs() < 0.2
    assert [float(cost) for cost in loss.error_costs().values()] == pytest.approx(loss.costs.tolist())


@pytest.mark.parametrize("logarithms", [(1.0, -1.0, 0.0), (-1.0, 2.0, -1.0), (0.0, -2.0, 2.0)])
def test_probability_that_moves_to_the_gold_answer_never_costs_more(logarithms):
    loss, features = with_costs(*logarithms), drawn(40)
    before, probabilities = loss(features), features["start_log_probs"].exp()
    gold = features["gold_spans"][:, 0, :1]
    for place in range(probabilities.shape[1]):
        moved = 0.5 * probabilities[:, place : place + 1]
        changed = probabilities.clone()
        changed[:, place : place + 1] -= moved
        changed = changed.scatter_add(1, gold, moved)
        assert (loss(features | {"start_log_probs": changed.log()}) <= before + 1e-6).all()


@pytest.mark.parametrize("logarithms", [(1.0, -1.0, 0.0), (-1.0, 2.0, -1.0), (0.0, -2.0, 2.0)])
def test_probability_that_moves_to_one_of_several_answers_never_costs_more(logarithms):
    loss, features = with_costs(*logarithms), drawn(40)
    features["gold_spans"] = features["gold_spans"].repeat(1, 3, 1)
    features["gold_spans"][features["gold_spans"][:, 0, 0] > 0, 1] = torch.tensor([3, 3])
    before, probabilities, golds = loss(features), features["start_log_probs"].exp(), features["gold_spans"][..., 0]
    for gold in golds.split(1, 1):
        for place in range(probabilities.shape[1]):
            moved = 0.5 * probabilities[:, place : place + 1] * (golds != place).all(1, keepdim=True)
            changed = probabilities.clone()
            changed[:, place : place + 1] -= moved
            changed = changed.scatter_add(1, gold, moved)
            assert (loss(features | {"start_log_probs": changed.log()}) <= before + 1e-6).all()


def test_the_gradient_is_right_and_finite_at_extremes():
    loss, features = with_costs(0.6, -0.8, 0.3).double(), drawn(6)
    start, end = (features[name].double().requires_grad_(True) for name in loss.scores)

    def of(start, end):
        return loss.score(features | {"start_log_probs": start, "end_log_probs": end})

    assert torch.autograd.gradcheck(of, (start, end))
    extreme = torch.tensor([1e4, -1e4, 0, -torch.inf, -1e6, 3]).repeat(6, 2).requires_grad_(True)
    value = of(extreme, extreme)
    value.sum().backward()
    assert value.isfinite().all() and extreme.grad[:, :3].isfinite().all()


def test_windows_that_do_not_count_and_padding_change_nothing():
    loss, features = with_costs(0.6, -0.8, 0.3), drawn(8)
    expected = loss.batch_loss({name: value[:6] for name, value in features.items()})
    features["position_mask"][6:] = False
    torch.testing.assert_close(loss.batch_loss(features), expected)
    assert (loss.statistics(features)[6:] == 0).all()
    padded = {name: torch.nn.functional.pad(value, (0, 3)) for name, value in features.items() if value.ndim == 2}
    torch.testing.assert_close(loss.batch_loss(features | padded), expected)


def test_a_model_with_the_right_probabilities_needs_no_shift():
    loss = with_costs(0.7, -0.7, 0.0)
    loss.settle(drawn(4000))
    assert loss.shift.abs() < 0.2


@pytest.mark.parametrize("offset", [1.5, -1.0])
def test_the_shift_is_what_the_null_score_is_wrong_by(offset):
    loss, features = AbstentionCosts(), drawn(2000, offset=offset)
    loss.settle(features)
    torch.testing.assert_close(loss.shift, torch.tensor([-offset]), atol=0.25, rtol=0)
    right = loss.foreseen(features)["start_log_probs"][:, 0]
    moved = right - features["start_log_probs"][:, 0]
    torch.testing.assert_close(moved.mean(), loss.shift.squeeze(), atol=0.05, rtol=0)
    assert len(moved.round(decimals=3).unique()) > 1, "examples tell their own move"


def test_training_sees_the_null_score_below_its_shift_and_ranking_sees_it_as_it_is():
    loss, features = AbstentionCosts(), drawn(30)
    before, statistics = loss(features), loss.statistics(features)
    with torch.no_grad():
        loss.shift.fill_(0.8)
    raised = {name: features[name] + 0.8 * features["null_mask"] for name in loss.scores}
    torch.testing.assert_close(loss(features | raised), before)
    assert torch.equal(loss.statistics(features), statistics)


def test_what_is_missing_after_an_earlier_shift_is_added():
    earlier, again, alone, features = *(AbstentionCosts() for _ in range(3)), drawn(500, offset=1.0)
    with torch.no_grad():
        earlier.shift.fill_(0.5)
    alone.settle(features)
    again.settle(features, earlier)
    torch.testing.assert_close(again.shift, alone.shift + 0.5)


def test_costs_are_learned_from_what_the_metric_punishes():
    """What counts is questions without an answer alone, or those with one alone."""
    predictions, costs = as_predictions(drawn(600)), {}
    for key in ("NoAns_f1", "HasAns_f1"):
        learner = CandidateLearner(GroupMetric("squad_v2", key), "AbstentionCosts", group_size=128)
        report = learner.learn(predictions)
        assert report.same_examples and report.spearman > max(0.8, report.spearman_cross_entropy)
        costs[key] = learner.surrogate.costs
    answering, abstaining, _ = costs["NoAns_f1"]
    assert answering > 3 * abstaining
    answering, abstaining, _ = costs["HasAns_f1"]
    assert abstaining > 3 * answering


def test_a_null_score_that_is_wrong_by_an_offset_is_foreseen_to_gain():
    learner = CandidateLearner("squad_v2", "AbstentionCosts")
    report = learner.learn(as_predictions(drawn(900, offset=3.0)))
    assert report.objection is None
    assert report.foreseen_gain > 10 > report.noise_of_foreseen
    assert -3.7 <= learner.surrogate.shift < -1.5


def test_a_learned_loss_is_saved_and_loaded(tmp_path):
    loss = with_costs(0.6, -0.8, 0.3)
    loss.settle(drawn(300, offset=1.0))
    loss.save_pretrained(tmp_path)
    loaded, features = SurrogateLoss.from_pretrained(tmp_path), drawn(20)
    assert type(loaded) is AbstentionCosts and torch.equal(loaded.shift, loss.shift)
    torch.testing.assert_close(loaded(features), loss(features))
