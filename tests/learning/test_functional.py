import pytest
import torch
from scipy.stats import rankdata, spearmanr

from reloss_hf import average_rank, gradient_penalty, soft_rank, sorting_network_rank, spearman_correlation
from reloss_hf.learning.functional import example_gradient_norms


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("function", [soft_rank, lambda x: spearman_correlation(x, draw(2, 7, seed=1))])
def test_rank_functions_pass_gradcheck_in_float64(function):
    assert torch.autograd.gradcheck(function, draw(2, 7).requires_grad_())


def test_the_gradient_penalty_passes_gradcheck_in_the_parameters_of_a_loss():
    inputs = draw(5, 3).requires_grad_()

    def penalty(weights):
        return gradient_penalty((inputs * weights).sin().sum(1), inputs)

    assert torch.autograd.gradcheck(penalty, draw(3, seed=1).requires_grad_())


@pytest.mark.parametrize("n", [2, 5, 64])
def test_soft_ranks_become_those_of_scipy_in_the_hard_limit_ties_included(n):
    values = draw(3, n).mul(3).round()
    expected = torch.tensor(rankdata(values.numpy(), axis=-1))
    torch.testing.assert_close(soft_rank(values, temperature=1e-4), expected)
    torch.testing.assert_close(average_rank(values), expected)


def test_spearman_agrees_with_scipy_in_the_hard_limit_with_ties_in_the_targets():
    scores, targets = draw(4, 50), draw(4, 50, seed=1).round()
    found = spearman_correlation(scores, targets, temperature=1e-6)
    expected = [spearmanr(a, b).statistic for a, b in zip(scores.numpy(), targets.numpy(), strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_soft_correlation_is_close_to_the_hard_one_at_every_scale_of_the_scores(scale):
    scores = draw(256, dtype=torch.float32) * scale + scale
    assert spearman_correlation(scores, scores) > 0.98


@pytest.mark.parametrize("constant", ["scores", "targets"])
def test_a_constant_side_gives_zero_and_a_finite_gradient(constant):
    scores = torch.full((8,), 0.1) if constant == "scores" else draw(8).float()
    targets = draw(8) if constant == "scores" else torch.ones(8)
    scores.requires_grad_()
    correlation = spearman_correlation(scores, targets)
    correlation.backward()
    assert correlation == 0
    assert scores.grad.isfinite().all()


def test_tied_targets_do_not_favour_an_order_of_theirs():
    targets = torch.tensor([0.0] * 24 + [0.5] * 16 + [1.0] * 60)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert average_rank(targets)[order].equal(average_rank(targets[order]))


def test_one_step_along_the_gradient_raises_the_correlation():
    scores, targets = draw(32).requires_grad_(), draw(32, seed=1)
    before = spearman_correlation(scores, targets)
    before.backward()
    assert spearman_correlation(scores + 0.5 * scores.grad / scores.grad.norm(), targets) > before


def test_batched_rows_are_ranked_on_their_own():
    scores, targets = draw(3, 4, 20), draw(3, 4, 20, seed=1)
    batched = spearman_correlation(scores, targets)
    assert batched.shape == (3, 4)
    torch.testing.assert_close(batched[1, 2], spearman_correlation(scores[1, 2], targets[1, 2]))


def test_the_sorting_network_ranks_as_the_paper_does():
    pytest.importorskip("diffsort")
    values = draw(16).float()
    ranks = sorting_network_rank(values, temperature=1e-3)
    torch.testing.assert_close(ranks, average_rank(values), atol=0.05, rtol=0)
    assert spearman_correlation(values, values, rank=sorting_network_rank) > 0.9


def test_the_penalty_is_zero_where_every_example_has_a_gradient_of_length_one():
    inputs = draw(6, 3).requires_grad_()
    direction = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64) / 3
    assert gradient_penalty(inputs @ direction, inputs) == pytest.approx(0, abs=1e-12)
    assert gradient_penalty(3 * (inputs @ direction), inputs) == pytest.approx(4)


def test_the_norm_of_an_example_is_taken_over_all_inputs_together():
    a, b = draw(4).requires_grad_(), draw(4, 2).requires_grad_()
    norms = example_gradient_norms(3 * a + 4 * b[:, 0], (a, b))
    torch.testing.assert_close(norms, torch.full((4,), 5.0, dtype=torch.float64))


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="temperature=0"):
        soft_rank(draw(3), temperature=0)


def test_scores_and_targets_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="differ in length"):
        spearman_correlation(draw(3), draw(4))
