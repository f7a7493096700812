import pytest
import torch
from synthetic import synthetic

from reloss_hf import GroupMetric, TokenErrorProbability, TokenSurrogate
from reloss_hf.diagnosis.diagnosis import diagnose
from reloss_hf.diagnosis.verdict import verdict


class RewardsUnlikelyTargets(TokenSurrogate):
    """Rises with the probability of a target up to 1/4, and falls beyond."""

    def score(self, features):
        p = features["target_log_probs"].exp()
        return (p * (0.5 - p)).mean(1)


def test_intervals_hold_their_value_and_gains_are_measured_on_the_same_draws():
    losses = {"again": TokenErrorProbability()}
    found = diagnose(synthetic(), GroupMetric("sacrebleu"), losses, resamples=300, progress=False).losses
    for loss in found:
        for interval in (loss.overall, loss.last, loss.within):
            assert interval.low < interval.value < interval.high
    error, again = found[1:]
    assert error.gain == again.gain
    assert error.gain.low > 0
    assert error.gain.high - error.gain.low < found[0].within.high - found[0].within.low + 0.05
    assert error.gain.value == pytest.approx(error.within.value - found[0].within.value)


def test_no_prediction_is_in_two_groups_and_corruptions_are_left_out():
    seen = []

    def metric(predictions, references):
        seen.extend(zip(predictions, references, strict=True))
        return float(len(set(predictions)))

    predictions = synthetic(examples=50)
    predictions.predictions = [f"{i}" for i in range(len(predictions))]
    predictions.candidates[predictions.candidates == 3] = -1
    diagnose(predictions, GroupMetric(metric), resamples=2, progress=False)
    assert len(seen) == len(set(seen)) == 3 * 48
    assert all(int(prediction) < 150 for prediction, _ in seen)


def test_weights_of_hand_made_losses_are_those_of_their_formulas():
    cross_entropy, error = diagnose(synthetic(), GroupMetric("sacrebleu"), resamples=2, progress=False).losses
    assert cross_entropy.weights.median.allclose(torch.ones(24), atol=1e-4)
    assert cross_entropy.weights.rewards_lower == 0
    p = error.weights.probability
    expected = p / p.mean()  # every bin has as many targets
    torch.testing.assert_close(error.weights.median, expected, atol=0.05, rtol=0.1)


def test_a_loss_that_rewards_a_lower_target_probability_is_flagged_and_not_recommended():
    found = diagnose(
        synthetic(), GroupMetric("sacrebleu"), {"bad": RewardsUnlikelyTargets()}, resamples=50, progress=False
    )
    assert found.losses[-1].weights.flagged
    sentences = verdict(found)
    assert any(s.startswith("Warning: bad rewards a lower probability of the target") for s in sentences)
    assert not sentences[0].startswith("bad ")


def test_a_metric_of_the_wrong_direction_and_a_constant_one_are_said_in_words():
    wrong = diagnose(synthetic(), GroupMetric("sacrebleu", lower_is_better=True), resamples=50, progress=False)
    assert "opposite to bleu" in verdict(wrong)[0]
    constant = diagnose(synthetic(), GroupMetric(lambda p, r: 1.0), resamples=50, progress=False)
    assert "nothing can be said" in verdict(constant)[0]


def test_groups_that_the_metric_cannot_score_are_left_out_of_the_diagnosis():
    def picky(predictions, references):
        if "wrong wrong wrong" in predictions[0]:
            raise ZeroDivisionError("hopeless")
        return GroupMetric("sacrebleu")(predictions, references, [range(len(predictions))])[0]

    with pytest.warns(UserWarning, match="could not score"):
        found = diagnose(synthetic(), GroupMetric(picky), resamples=50, progress=False)
    assert found.groups_left_out > 3
    assert found.metric.isfinite().all()
    assert f"{found.groups_left_out} groups that picky could not score are left out." in verdict(found)
    assert len(found.metric) == len(found.candidates) == len(found.losses[0].losses) == 100 - found.groups_left_out
    assert found.losses[0].within.low < found.losses[0].within.value < found.losses[0].within.high
