"""Diagnoses of classifiers: losses are compared on candidates of the same examples."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from synthetic_classes import FREQUENCIES, synthetic_classes

from reloss_hf import CandidateLearner, GroupMetric
from reloss_hf.diagnosis.diagnosis import diagnose
from reloss_hf.diagnosis.report import table, write_report
from reloss_hf.diagnosis.verdict import verdict
from reloss_hf.learner import group_metric
from reloss_hf.tasks import task_of_features

MACRO = {"average": "macro"}


@pytest.fixture(scope="module")
def learner():
    learner = CandidateLearner("f1", metric_options=MACRO)
    learner.learn(synthetic_classes(models=1, seed=1))
    return learner


@pytest.fixture(scope="module")
def diagnosis(learner):
    surrogates = {"learned": learner.surrogate}
    return diagnose(synthetic_classes(), GroupMetric("f1", options=MACRO), surrogates, resamples=200, progress=False)


def test_all_hand_made_losses_of_classifiers_are_compared_with_their_frequencies_counted(diagnosis):
    assert [loss.name for loss in diagnosis.losses] == [
        "cross-entropy",
        "ClassWeightedCrossEntropy",
        "LogitAdjustedCrossEntropy",
        "FocalLoss",
        "LabelSmoothedCrossEntropy",
        "SoftF1Loss",
        "learned",
    ]
    gains = {loss.name: loss.gain for loss in diagnosis.losses}
    assert gains["ClassWeightedCrossEntropy"].low > 0
    assert gains["learned"].value > 0.3
    assert "learned follows it most" in " ".join(verdict(diagnosis))


def test_a_set_holds_candidates_of_the_same_examples_and_correlations_are_within_sets():
    predictions = synthetic_classes(examples=60, models=2)
    seen = []

    def metric(predictions, references):
        seen.append(np.array(references))
        return float(np.array(predictions).mean())

    found = diagnose(predictions, GroupMetric(metric), group_size=20, resamples=20, progress=False)
    assert len(seen) == (1 + 32) * 32  # a trial of how strongly to perturb comes first
    for start in range(0, len(seen), 32):
        assert all((references == seen[start]).all() for references in seen[start : start + 32])
    assert len({references.tobytes() for references in seen}) == 32
    base = found.losses[0]
    pairs = zip(found.metric.view(32, 32), base.losses.view(32, 32), strict=True)
    expected = np.mean([spearmanr(scores, -losses).statistic for scores, losses in pairs])
    assert base.within.value == pytest.approx(expected, abs=1e-6)
    assert base.within.low < base.within.value < base.within.high
    assert found.candidates.tolist() == [0] * 512 + [1] * 512


def test_a_cross_entropy_that_orders_against_the_metric_is_said_in_capital_letters():
    def boldness(predictions, references):  # the metric of a user who wants many labels
        return float(np.array(predictions).sum())

    features = synthetic_classes(models=1)
    sentences = verdict(diagnose(features, GroupMetric(boldness), resamples=100, progress=False))
    assert sentences[0].startswith("CROSS-ENTROPY ORDERS PREDICTIONS OF THE SAME EXAMPLES AGAINST BOLDNESS: SPEARMAN -")


def test_a_metric_that_never_varies_says_nothing():
    found = diagnose(synthetic_classes(models=1), GroupMetric(lambda p, r: 1.0), resamples=20, progress=False)
    assert "nothing can be said" in verdict(found)[0]


def test_candidates_that_the_metric_cannot_score_are_left_out():
    def picky(predictions, references):
        if np.array(predictions).sum() % 9 == 0:
            raise ZeroDivisionError("too many")
        return float(np.array(predictions).mean())

    with pytest.warns(UserWarning, match="could not score") as warned:
        found = diagnose(synthetic_classes(models=1), GroupMetric(picky), resamples=20, progress=False)
    assert len(warned) == 1
    assert 0 < found.groups_left_out == 1024 - len(found.metric)
    assert found.losses[0].losses.isfinite().all()
    assert np.isfinite(found.losses[0].within.value)
    assert f"{found.groups_left_out} candidates that picky could not score are left out." in verdict(found)


def test_learned_costs_are_drawn_and_written(diagnosis, learner, tmp_path):
    page = write_report(diagnosis, tmp_path, "out/predictions", "reloss diagnose").read_text(encoding="utf-8")
    assert "What each error costs" in page and "groups" not in page
    assert "32 sets of 32 candidates of the same 256 examples" in page
    for picture in ("losses_against_metric.png", "weights.png", "costs.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert list(diagnosis.losses[-1].costs) == ["miss", "false alarm"]
    assert torch.equal(diagnosis.losses[-1].costs["miss"], learner.surrogate.costs[0])
    assert "all groups" not in table(diagnosis)


def test_misses_of_rare_labels_cost_more_for_macro_f1(learner):
    misses, _ = learner.surrogate.costs
    assert misses[-1] > misses[0]
    assert len(misses) == len(FREQUENCIES)


def test_all_classes_are_named_to_a_metric_that_averages_over_them():
    single, several = (synthetic_classes(models=1, several=several) for several in (False, True))
    for predictions, expected in ((single, MACRO | {"labels": list(range(6))}), (several, MACRO)):
        task = task_of_features(predictions.features)
        assert group_metric(task, predictions, "f1", options=MACRO).options == expected
        learner = CandidateLearner("f1", metric_options=MACRO, sets=2, candidates=4, steps=1)
        learner.learn(predictions)
        assert learner.surrogate.info["metric_options"].keys() == expected.keys()


def test_costs_of_another_number_of_classes_are_refused(learner):
    features = {"logits": torch.zeros(3, 4), "labels": torch.zeros(3, dtype=torch.long)}
    with pytest.raises(ValueError, match="these costs are for 6 classes, but the logits have 4"):
        learner.surrogate(features)


def test_a_loss_that_is_not_learned_is_refused_by_the_learner():
    with pytest.raises(ValueError, match="'FocalLoss' cannot be learned .* or learn a ClassCosts"):
        CandidateLearner("accuracy", "FocalLoss")
    with pytest.raises(ValueError, match="'NgramSurrogate' cannot be learned from candidates of the same examples"):
        CandidateLearner("accuracy", "NgramSurrogate")
