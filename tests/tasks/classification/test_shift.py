"""Costs that hold for held-out examples also move a model that has fitted its training data."""

import json
import logging

import pytest
import torch
from drawn_classes import CLASSES, drawn, predictions_of
from toy_classes import Bag, make_rows, make_trainer, recall_of_rare

from reloss_hf import CandidateLearner, ClassCosts, LearningReport, ReLossTrainer


@pytest.mark.parametrize("several", [False, True])
def test_a_model_with_the_right_probabilities_needs_no_shift(several):
    loss = ClassCosts(CLASSES)
    with torch.no_grad():
        loss.means.copy_(torch.tensor([[0.7], [-0.7]]))  # a miss costs four times as much as a false alarm
    loss.settle(drawn(several))
    assert loss.shift.abs().max() < 0.25


@pytest.mark.parametrize("several", [False, True])
def test_the_shift_is_what_the_probabilities_are_wrong_by(several):
    loss = ClassCosts(CLASSES)
    loss.settle(drawn(several, offset=1.5))
    odd, even = loss.shift[1::2], loss.shift[::2]
    torch.testing.assert_close(odd.mean() - even.mean(), torch.tensor(1.5), atol=0.2, rtol=0)
    if several:
        assert even.abs().max() < 0.2


def test_training_sees_the_logits_below_their_shift_and_ranking_sees_them_as_they_are():
    loss, features = ClassCosts(CLASSES), drawn(True)
    before, statistics = loss(features), loss.statistics(features)
    with torch.no_grad():
        loss.shift.fill_(0.8)
    torch.testing.assert_close(loss(features | {"logits": features["logits"] + 0.8}), before)
    assert torch.equal(loss.statistics(features), statistics)


def test_what_is_missing_after_an_earlier_shift_is_added():
    earlier, again = ClassCosts(CLASSES), ClassCosts(CLASSES)
    with torch.no_grad():
        earlier.shift.fill_(0.5)
    features = drawn(True, offset=1.5)
    earlier_alone = ClassCosts(CLASSES)
    earlier_alone.settle(features)
    again.settle(features, earlier)
    torch.testing.assert_close(again.shift, earlier_alone.shift + 0.5)


def test_a_class_without_examples_moves_as_the_others_do():
    features = drawn(True, offset=0.0)
    features["logits"] = features["logits"] - 1.5
    features["labels"][:, 2] = 0
    loss = ClassCosts(CLASSES)
    loss.observe(features)
    loss.settle(features)
    others = loss.shift[[0, 1, 3, 4]]
    assert others.min() - 0.2 < loss.shift[2] < others.max() + 0.2


def test_where_costs_rank_no_better_the_move_alone_may_be_worth_it():
    """Accuracy of one class of two is ranked best by cross-entropy. But the decisions are wrong by an offset."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 2, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    right = {"logits": logits, "labels": labels}
    wrong = {"logits": logits + torch.tensor([2.0, 0.0]), "labels": labels}
    reports = []
    for features in (right, wrong):
        learner = CandidateLearner("accuracy", sets=24, candidates=48)
        report = learner.learn(predictions_of(features, slice(1400)), predictions_of(features, slice(1400, None)))
        reports.append(report)
    assert reports[0].objection is not None and abs(reports[0].foreseen_gain) < 0.02
    assert reports[1].objection is None and reports[1].foreseen_gain > 0.05 + reports[1].noise_of_foreseen


def test_an_error_rate_that_falls_is_no_reason_to_go_back(tmp_path, caplog):
    def missed(predictions, references):
        return 1 - recall_of_rare(predictions, references)

    trainer = make_trainer(
        tmp_path,
        several=True,
        model=Bag(several=True),
        metric=missed,
        lower_is_better=True,
        surrogate_dataset=make_rows(800, seed=7, several=True),
        arguments={"learning_rate": 0.1},
    )
    with caplog.at_level(logging.WARNING):
        trainer.train()
    logs = [entry for entry in trainer.state.log_history if "held_out_metric" in entry]
    assert logs[-1]["held_out_metric"] < logs[-1]["held_out_metric_at_switch"] - 0.1
    assert "became worse" not in caplog.text and trainer.surrogate_in_force


def test_the_report_of_a_loss_without_a_shift_is_valid_json():
    report = LearningReport("bleu", "NgramSurrogate", 0.8, 0.6, 0.8, 0.6, 0.1, 0.2, 64)
    json.dumps(report.as_dict(), allow_nan=False)
    assert report.objection is None


@pytest.mark.parametrize(("gain", "used"), [(-0.001, False), (0.0, True), (0.001, True)])
def test_a_loss_that_ranks_better_is_not_used_where_it_is_foreseen_to_lower_the_metric(gain, used):
    foreseen = {"held_out_metric": 0.5, "foreseen_metric": 0.5 + gain, "foreseen_gain": gain, "noise_of_foreseen": 0.02}
    report = LearningReport("f1", "ClassCosts", 0.8, 0.6, 0.8, 0.6, 0.1, 0.2, 64, same_examples=True, **foreseen)
    assert (report.objection is None) == used


def test_the_earlier_loss_is_read_where_the_predictions_are():
    seen = []

    class Watched(ClassCosts):
        def settle(self, features, earlier=None):
            seen.append(earlier)
            super().settle(features, earlier)

    learner, earlier = CandidateLearner("f1", "Watched", metric_options={"average": "macro"}), ClassCosts(CLASSES)
    learner.learn(predictions_of(drawn(True, offset=1.5)), None, earlier)
    assert seen[0] is not earlier and seen[0].shift.device.type == "cpu"


def test_when_learning_again_is_refused_the_earlier_loss_and_its_report_stay(tmp_path, caplog):
    class RefusedLater(ReLossTrainer):
        times = 0

        def _learn(self, *evidence):
            self.times += 1
            first = super()._learn(*evidence)
            return (*first[:2], None) if self.times == 1 else (None, None, "no surrogate could be learned: later")

    trainer = make_trainer(tmp_path, cls=RefusedLater, metric="f1", metric_options={"average": "macro"})
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.times == 4 and trainer.surrogate_report is not None
    assert "The surrogate that was learned before stays in use: no surrogate could be learned: later" in caplog.text
    assert sum("surrogate_spearman" in entry for entry in trainer.state.log_history) == 1
