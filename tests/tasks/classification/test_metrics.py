"""Metrics of classifiers by name: scikit-learn's values, one group after the other or all at once."""

import evaluate
import numpy as np
import pytest
import sklearn.metrics
from datasets import Features, Value

from reloss_hf import GroupMetric
from reloss_hf.tasks.classification.metrics import METRICS, takes_labels

GROUPS = np.arange(240).reshape(6, 40)


def draws(several, classes=5, skewed=False):
    draw = np.random.default_rng(0)
    if several:
        return [(draw.random((240, classes)) < 0.3).astype(int) for _ in range(2)]
    shares = np.array([0.9, 0.06, 0.03, 0.01, 0.0] if skewed else [0.2] * 5)[:classes]
    return [draw.choice(classes, 240, p=shares / shares.sum()) for _ in range(2)]


def expected(function, predictions, references, **options):
    return [function(references[rows], predictions[rows], **options) for rows in GROUPS]


ALL = {"labels": list(range(5)), "zero_division": 0.0}
CASES = [
    ("accuracy", "accuracy_score", {}, {}),
    ("matthews_correlation", "matthews_corrcoef", {}, {}),
    ("balanced_accuracy_score", "balanced_accuracy_score", {}, {}),
    ("cohen_kappa_score", "cohen_kappa_score", {"weights": "quadratic"}, {}),
    *[("f1", "f1_score", {"average": average}, ALL) for average in ("macro", "micro", "weighted")],
    *[("precision", "precision_score", {"average": average}, ALL) for average in ("macro", "micro")],
    ("recall", "recall_score", {"average": "macro"}, ALL),
    ("fbeta_score", "fbeta_score", {"average": "macro", "beta": 2}, ALL),
    ("fbeta_score", "fbeta_score", {"average": "weighted", "beta": 0.5}, ALL),
]


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize(("name", "function", "options", "fixed"), CASES)
def test_of_one_class_each(name, function, options, fixed, skewed):
    predictions, references = draws(several=False, skewed=skewed)
    scores = GroupMetric(name, options=options | fixed)(predictions, references, GROUPS)
    truth = expected(getattr(sklearn.metrics, function), predictions, references, **options | fixed)
    assert scores == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("options", [{}, {"pos_label": 0}])
def test_of_two_classes(options):
    predictions, references = draws(several=False, classes=2)
    scores = GroupMetric("f1", options=options)(predictions, references, GROUPS)
    assert scores == pytest.approx(expected(sklearn.metrics.f1_score, predictions, references, **options))


SEVERAL = [
    ("accuracy", "accuracy_score", {}),
    *[("f1", "f1_score", {"average": average}) for average in ("macro", "micro", "weighted", "samples")],
    *[("fbeta_score", "fbeta_score", {"average": average, "beta": 2}) for average in ("macro", "samples")],
    ("precision", "precision_score", {"average": "samples"}),
    ("jaccard_score", "jaccard_score", {"average": "macro"}),
]


@pytest.mark.parametrize(("name", "function", "options"), SEVERAL)
def test_of_several_labels_at_once(name, function, options):
    predictions, references = draws(several=True)
    quiet = {} if name == "accuracy" else {"zero_division": 0.0}
    scores = GroupMetric(name, options=options)(predictions, references, GROUPS)
    truth = expected(getattr(sklearn.metrics, function), predictions, references, **options | quiet)
    assert scores == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_all_at_once_is_as_one_by_one(name):
    options = {"average": "macro"} if "average" in METRICS[name].load.__signature__.parameters else {}
    options |= {"beta": 2.0} if name == "fbeta_score" else {}
    predictions, references = draws(several=False)
    metric = GroupMetric(name, options=options)
    one_by_one = [metric(predictions, references, GROUPS[i : i + 1])[0] for i in range(len(GROUPS))]
    assert metric(predictions, references, GROUPS) == pytest.approx(one_by_one, abs=1e-12)


def test_an_unknown_option_is_named():
    with pytest.raises(ValueError, match="'f1' has no option 'averaged'; it accepts .*'average'"):
        GroupMetric("f1", options={"averaged": "macro"})


class F1(evaluate.Metric):
    def _info(self):
        features = Features({"predictions": Value("int32"), "references": Value("int32")})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references, labels=None, average="binary"):
        return {"f1": sklearn.metrics.f1_score(references, predictions, labels=labels, average=average)}


def test_which_metrics_take_the_set_of_classes():
    assert takes_labels("f1") and takes_labels(sklearn.metrics.f1_score)
    assert not takes_labels("accuracy") and not takes_labels(lambda predictions, references, labels=None: 0.0)
    assert takes_labels(F1())
