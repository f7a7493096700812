import math
import random
import re

import pytest
import torch
from scipy.stats import spearmanr
from synthetic import synthetic

from reloss_hf import (
    GroupMetric,
    LearningReport,
    NgramSurrogate,
    SurrogateLearner,
    SurrogateLoss,
    TokenErrorProbability,
    sorting_network_rank,
)
from reloss_hf.learning.functional import example_gradient_norms
from reloss_hf.learning.groups import Groups, draw_groups, split_examples


def learner(metric="sacrebleu", surrogate="NgramSurrogate", **changes):
    settings = {"groups": 512, "steps": 150, "progress": False} | changes
    return SurrogateLearner(metric, surrogate, **settings)


@pytest.fixture(scope="module")
def learned():
    learner_ = learner()
    return learner_, learner_.learn(synthetic())


def test_a_learned_surrogate_orders_held_out_predictions_better_than_cross_entropy(learned):
    report = learned[1]
    assert report.spearman > report.spearman_cross_entropy + 0.05
    assert report.spearman_within > report.spearman_cross_entropy_within + 0.05
    assert report.objection is None


def test_learning_raises_the_correlation_of_the_unlearned_surrogate(learned):
    unlearned = learner(steps=1).learn(synthetic())
    assert learned[1].steps > 0
    assert learned[1].spearman > unlearned.spearman


def test_the_report_is_what_scipy_measures_on_the_held_out_groups(learned):
    learner_, report = learned
    groups = learner_.held_out_groups
    assert report.spearman == pytest.approx(spearmanr(-groups.surrogate, groups.metric).statistic, abs=1e-5)
    assert report.spearman_cross_entropy == pytest.approx(
        spearmanr(-groups.cross_entropy, groups.metric).statistic, abs=1e-5
    )
    within = [
        spearmanr(-groups.surrogate[rows], groups.metric[rows]).statistic
        for rows in (groups.candidates == c for c in groups.candidates.unique())
    ]
    assert report.spearman_within == pytest.approx(sum(within) / len(within), abs=1e-5)


@pytest.mark.parametrize("surrogate", ["NgramSurrogate", "TransformerTokenSurrogate"])
def test_a_shuffled_metric_teaches_nothing(surrogate):
    predictions = synthetic()
    random.Random(0).shuffle(predictions.predictions)
    report = learner(surrogate=surrogate, groups=256, steps=20).learn(predictions)
    assert abs(report.spearman) < report.chance
    assert "no better than cross-entropy or chance" in report.objection


def test_a_constant_metric_is_an_objection_and_not_a_crash():
    report = learner(lambda predictions, references: 1.0).learn(synthetic())
    assert report.spearman == 0
    assert "same on every group" in report.objection


def test_a_metric_of_the_wrong_direction_is_an_objection_that_names_the_remedy():
    report = learner(GroupMetric("ter", lower_is_better=False), steps=20).learn(synthetic())
    assert "lower_is_better=True" in report.objection


def test_an_error_rate_is_learned_without_being_told_so():
    learner_ = learner("ter", steps=20)
    report = learner_.learn(synthetic())
    assert report.spearman_cross_entropy > 0.3
    assert learner_.surrogate.info["lower_is_better"] is True


def test_groups_that_the_metric_cannot_score_take_no_part_and_are_counted():
    def picky(predictions, references):
        if "wrong wrong wrong" in predictions[0]:
            raise ZeroDivisionError("hopeless")
        return GroupMetric("sacrebleu")(predictions, references, [range(len(predictions))])[0]

    learner_ = learner(picky)
    with pytest.warns(UserWarning, match="could not score") as warned:
        report = learner_.learn(synthetic())
    assert len(warned) == 1
    found = int(re.search(r"could not score (\d+) of", str(warned[0].message)).group(1))
    assert report.groups_left_out == learner_.surrogate.info["groups_left_out"] == found > 50
    groups = learner_.held_out_groups
    assert groups.metric.isfinite().all()
    assert len(groups.metric) == len(groups.surrogate) == len(groups.candidates) == report.held_out_groups < 512
    assert report.spearman > report.spearman_cross_entropy + 0.05


def test_a_candidate_most_of_whose_groups_cannot_be_scored_takes_no_part():
    predictions = synthetic()
    predictions.predictions = [
        "" if candidate == 0 else text
        for candidate, text in zip(predictions.candidates.tolist(), predictions.predictions, strict=True)
    ]

    def picky(predictions, references):
        return sum(p == r for p, r in zip(predictions, references, strict=True)) / len("".join(predictions))

    learner_ = learner(picky, steps=20)
    with pytest.warns(UserWarning, match="ZeroDivisionError"):
        learner_.learn(predictions)
    assert learner_.held_out_groups.candidates.unique().tolist() == [1, 2, 3]


def test_in_the_place_of_a_group_without_a_score_stands_another_of_its_candidate():
    rows = torch.arange(18).view(3, 3, 2)
    nan = float("nan")
    groups = Groups(rows, torch.tensor([[1.0, 2, 3], [4, nan, 5], [nan, nan, 6]])).scored()
    assert groups.metric.tolist() == [[1, 2, 3], [4, 5, 4]]
    assert groups.rows.tolist() == [rows[0].tolist(), [rows[1, i].tolist() for i in (0, 2, 0)]]
    with pytest.raises(RuntimeError, match="less than half of the groups of every candidate"):
        Groups(rows, torch.full((3, 3), nan)).scored()


def test_a_report_that_was_saved_without_the_count_loads(learned):
    saved = learned[1].as_dict()
    del saved["groups_left_out"]
    assert LearningReport(**saved).groups_left_out == 0


def test_a_surrogate_no_better_than_cross_entropy_is_an_objection():
    report = learner(surrogate="TokenCrossEntropy", steps=10).learn(synthetic())
    assert report.spearman == pytest.approx(report.spearman_cross_entropy, abs=1e-5)
    assert report.objection is not None


def test_the_gradient_is_scaled_to_that_of_cross_entropy(learned):
    predictions = synthetic()
    last = predictions.select((predictions.candidates == 3).nonzero().flatten())
    norms = []
    for loss in (learned[0].surrogate, learned[0].surrogate.cross_entropy):
        logits = NgramSurrogate.to_logits(last.features["target_log_probs"]).requires_grad_()
        features = last.features | {"target_log_probs": NgramSurrogate.from_logits(logits)}
        norms.append(example_gradient_norms(loss(features), (logits,)).square().mean().sqrt())
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-3, atol=0)


def test_no_example_is_both_learned_from_and_reported_on():
    predictions = synthetic()
    parts = split_examples(predictions, 8, 0.3, torch.Generator().manual_seed(0))
    keys = [{predictions.references[row] for row in part.tolist()} for part in parts]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    assert [len(part) for part in parts] == [560, 120, 120]


def test_groups_never_mix_candidates():
    predictions = synthetic()
    generator = torch.Generator().manual_seed(0)
    groups = draw_groups(predictions, torch.arange(len(predictions)), 8, 100, generator)
    groups = learner()._score(predictions, [groups])[0]
    for drawn, shape in ((groups, (4, 25, 8)), (groups.sample(32, generator), (2, 16, 8))):
        candidates = predictions.candidates[drawn.rows]
        assert drawn.rows.shape == shape
        assert drawn.metric.shape == shape[:2]
        assert (candidates == candidates[:, :1, :1]).all()
        assert all(len(set(row.tolist())) == 8 for row in drawn.rows.flatten(0, 1))


def test_corruptions_are_learned_from_but_not_reported_on():
    predictions = synthetic()
    predictions.candidates = torch.where(
        predictions.candidates % 2 == 1, -1 - predictions.candidates, predictions.candidates
    )
    learner_ = learner(steps=5)
    learner_.learn(predictions)
    assert learner_.held_out_groups.candidates.unique().tolist() == [0, 2]


def test_the_same_seed_learns_the_same_bit_for_bit_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    first, second = (learner(surrogate="TransformerTokenSurrogate", steps=12) for _ in range(2))
    reports = [one.learn(synthetic()) for one in (first, second)]
    assert torch.get_rng_state().equal(state)
    assert reports[0].spearman == reports[1].spearman
    for a, b in zip(first.surrogate.state_dict().values(), second.surrogate.state_dict().values(), strict=True):
        assert a.equal(b)


def test_the_given_surrogate_is_copied_and_the_learned_one_frozen(learned):
    start = TokenErrorProbability()
    learner_ = learner(surrogate=start, steps=3)
    learner_.learn(synthetic())
    assert start.log_scale == 0
    assert not any(parameter.requires_grad for parameter in learner_.surrogate.parameters())


def test_it_learns_from_a_folder_and_what_it_learned_is_saved_with_the_facts(tmp_path):
    synthetic().save(tmp_path / "predictions")
    learner_ = learner(steps=20)
    report = learner_.learn(tmp_path / "predictions")
    learner_.surrogate.save_pretrained(tmp_path / "surrogate")
    loaded = SurrogateLoss.from_pretrained(tmp_path / "surrogate")
    assert loaded.info["metric"] == "bleu"
    assert loaded.info["spearman"] == report.spearman


def test_the_papers_sorting_network_can_rank():
    pytest.importorskip("diffsort")
    report = learner(rank=sorting_network_rank, groups_per_step=32, steps=30).learn(synthetic())
    assert report.spearman > report.spearman_cross_entropy


def test_too_few_examples_are_refused_with_the_number_needed():
    learner_ = learner()
    assert learner_.smallest_data_set == math.ceil(8 / 0.15)
    with pytest.raises(ValueError, match="53 different examples.*need 54"):
        learner_.learn(synthetic(examples=53))
    learner_.learn(synthetic(examples=54))


@pytest.mark.parametrize("arguments", [{"group_size": 0}, {"held_out": 1.0}])
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}="):
        learner(**arguments)


def test_an_unknown_class_of_surrogate_names_the_known_ones():
    with pytest.raises(ValueError, match="no surrogate 'Ngram'.*NgramSurrogate"):
        learner(surrogate="Ngram")
