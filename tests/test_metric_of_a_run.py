"""What a trainer does with its metric: options, direction, and groups without a score."""

import evaluate
import jiwer
import pytest
from toy_training import last_word_accuracy
from toy_translation import SacrebleuModule

from reloss_hf import GroupMetric


def test_options_reach_the_metric_that_is_learned(build):
    trainer = build(trainer={"metric": "sacrebleu", "metric_options": {"lowercase": True, "tokenize": "none"}})
    trainer.train()
    info = trainer.learner.surrogate.info
    assert "case:lc" in info["metric_signature"]
    assert "tok:none" in info["metric_signature"]
    assert trainer.surrogate_report.spearman_cross_entropy > 0


@pytest.mark.parametrize("metric", ["ter", jiwer.wer])
def test_an_error_rate_needs_no_word_of_its_direction(build, metric):
    trainer = build(trainer={"metric": metric})
    trainer.train()
    assert trainer.surrogate_report.spearman_cross_entropy > 0
    assert trainer.learner.metric.lower_is_better


def test_a_metric_that_cannot_score_some_groups_is_learned_from_the_others(build, caplog):
    def picky(predictions, references):
        if predictions[0] > references[0] and predictions[1] > references[1]:
            raise ZeroDivisionError("no luck")
        return last_word_accuracy(predictions, references)

    trainer = build(trainer={"metric": picky})
    with pytest.warns(UserWarning, match=r"metric 'picky' could not score \d+ of \d+ groups, which are left out"):
        trainer.train()
    assert 0 < trainer.surrogate_report.groups_left_out < 2000
    assert trainer.surrogate is not None
    assert "no surrogate could be learned" not in caplog.text


def test_a_metric_that_cannot_score_predictions_of_nothing_says_so_at_the_beginning(build, recwarn):
    def average(predictions, references):
        return len(predictions) / sum(len(prediction.split()) for prediction in predictions)

    with pytest.warns(UserWarning, match="predict nothing.*ZeroDivisionError"):
        build(trainer={"metric": average})
    recwarn.clear()
    build(trainer={"metric": last_word_accuracy})
    build(trainer={"metric": evaluate.combine([SacrebleuModule()])})
    assert not [warning for warning in recwarn if "predict nothing" in str(warning.message)]


def test_a_metric_that_is_made_is_taken_as_it_is(build):
    metric = GroupMetric("chrf", options={"word_order": 2})
    assert build(trainer={"metric": metric}).learner.metric is metric
