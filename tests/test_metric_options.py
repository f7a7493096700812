"""Settings of a metric, and what is refused when a metric is given."""

import functools

import numpy as np
import pytest
import sacrebleu
import sklearn.metrics
from sacrebleu.metrics import BLEU
from toy_metrics import Share, anything
from toy_translation import SacrebleuModule

from reloss_hf import GroupMetric


def corpus_score(list_of_references, hypotheses, weights=None):
    return 0.0


@pytest.mark.parametrize(
    ("metric", "options", "message"),
    [
        (corpus_score, {}, r"'hypotheses' is not where .*corpus_score\(hypotheses=predictions, list_of_references=ref"),
        (sklearn.metrics.roc_auc_score, {}, r"'y_true' is not where .*y_true=references, y_score=predictions"),
        (sklearn.metrics.log_loss, {}, "'y_true' is not where .* 'y_proba'"),
        (lambda eval_prediction: 0.0, {}, r"cannot be called as \(predictions, references\)"),
        (sklearn.metrics.fbeta_score, {}, r"'fbeta_score' needs \['beta'\]: pass them by metric_options="),
        (sacrebleu.corpus_bleu, {}, r"corpus_bleu takes references in another order.*BLEU\(\)"),
        (sklearn.metrics.f1_score, {"avg": "macro"}, r"'f1_score' has no option 'avg'; it accepts \['labels'"),
        (sklearn.metrics.f1_score, {"y_true": []}, "'f1_score' has no option 'y_true'; it accepts"),
        (anything, {"lower": True}, "'anything' has no option 'lower'; it accepts none"),
        (Share(), {"upper": True}, r"'share' has no option 'upper'; it accepts \['lower'\]"),
        (functools.partial(Share().compute, upper=True), {}, r"'share' has no option 'upper'; it accepts \['lower'\]"),
        (SacrebleuModule(), {"lowercase": True}, "no option 'lowercase'; it accepts none"),
        ("sacrebleu", {"lower": True}, r"'sacrebleu' has no option 'lower'; it accepts \['lowercase', 'force'"),
        ("squad", {"lowercase": True}, "'squad' has no option 'lowercase'; it accepts none"),
        ("sacrebleu", ["lowercase"], r"metric_options=\['lowercase'\] must be a dict"),
        (BLEU(), {"lowercase": True}, r"'lowercase': True} come too late for a BLEU object: pass BLEU\(...\)"),
    ],
)
def test_what_cannot_be_called_is_refused_when_it_is_given(metric, options, message):
    with pytest.raises(ValueError, match=message):
        GroupMetric(metric, options=options)


def test_named_metrics_pass_their_options_to_what_computes_them():
    group = (["THE SMALL CAT SAT!"], ["the small cat sat"], np.array([[0]]))
    assert GroupMetric("sacrebleu", options={"lowercase": True, "tokenize": "none", "use_effective_order": True})(
        *group
    ) == pytest.approx(BLEU(lowercase=True, tokenize="none", effective_order=True).corpus_score(*_streams(group)).score)
    assert GroupMetric("ter", options={"ignore_punct": True, "normalized": True})(*group) == 0
    assert GroupMetric("ter", options={"no_punct": True, "normalized": True})(*group) == 0
    assert GroupMetric("ter")(*group) < 0
    assert GroupMetric(BLEU(lowercase=True).corpus_score)(*group) == GroupMetric(BLEU(lowercase=True))(*group)


def test_a_module_that_sacrebleu_replaces_keeps_the_settings_of_its_compute():
    class Sacrebleu(SacrebleuModule):
        pass

    group = (["THE SMALL CAT SAT"], ["the small cat sat"], np.array([[0]]))
    assert GroupMetric(functools.partial(Sacrebleu().compute, lowercase=True))(*group) == pytest.approx(100)
    assert GroupMetric(Sacrebleu(), options={"lowercase": True})(*group) == pytest.approx(100)
    assert GroupMetric(Sacrebleu().compute)(*group) < 50


def _streams(group):
    return group[0], [group[1]]
