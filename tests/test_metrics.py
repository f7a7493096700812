import evaluate
import numpy as np
import pytest
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF, TER
from toy_translation import SacrebleuModule, toy_pairs

from reloss_hf import GroupMetric


@pytest.fixture(scope="module")
def corpus():
    references = [target for _, target in toy_pairs(60, seed=0)]
    others = [target for _, target in toy_pairs(60, seed=1)]
    predictions = [
        " ".join(r.split()[: 2 + i % 5] + o.split()[: i % 4])
        for i, (r, o) in enumerate(zip(references, others, strict=True))
    ]
    groups = np.random.default_rng(0).integers(0, 60, size=(25, 8))
    return predictions, references, groups


def test_group_bleu_equals_that_of_an_evaluate_module(corpus):
    predictions, references, groups = corpus
    module = SacrebleuModule()
    expected = [
        module.compute(predictions=[predictions[i] for i in g], references=[[references[i]] for i in g])["score"]
        for g in groups
    ]
    assert np.std(expected) > 1
    np.testing.assert_allclose(GroupMetric("sacrebleu")(*corpus), expected, atol=1e-9)
    np.testing.assert_allclose(GroupMetric(module)(*corpus), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("metric", "function", "sign"),
    [("chrf", sacrebleu.corpus_chrf, 1), (TER(), sacrebleu.corpus_ter, -1), ("ter", sacrebleu.corpus_ter, -1)],
)
def test_chrf_and_ter_of_groups_are_those_of_sacrebleu(corpus, metric, function, sign):
    predictions, references, groups = corpus
    expected = [sign * function([predictions[i] for i in g], [[references[i] for i in g]]).score for g in groups]
    np.testing.assert_allclose(GroupMetric(metric)(*corpus), expected, atol=1e-9)


def test_settings_of_a_sacrebleu_metric_are_kept(corpus):
    groups = corpus[2]
    references = [source for source, _ in toy_pairs(60, seed=0)]
    shouted = [reference.upper() for reference in references]
    assert GroupMetric(BLEU(lowercase=True))(shouted, references, groups) == pytest.approx(100)
    assert GroupMetric(BLEU())(shouted, references, groups).max() < 50


def test_statistics_are_counted_once_a_sentence(corpus, monkeypatch):
    calls = []
    monkeypatch.setattr(
        CHRF, "_compute_segment_statistics", lambda self, hypothesis, ref: calls.append(hypothesis) or [1] * 18
    )
    GroupMetric(CHRF())(*corpus)
    assert len(calls) == 60


def test_several_references_of_an_example_are_all_used():
    predictions, references = ["a b c d", "e f g h"], [["x y z w", "a b c d"], ["e f g h"]]
    assert GroupMetric("sacrebleu")(predictions, references, np.array([[0, 1]])) == pytest.approx(100)


def test_a_function_is_called_with_the_predictions_and_references_of_a_group():
    def matches(predictions, references):
        return sum(p == r for p, r in zip(predictions, references, strict=True))

    scores = GroupMetric(matches)(["a", "b", "c"], ["a", "x", "c"], np.array([[0, 1], [0, 2]]))
    assert scores.tolist() == [1, 2]


def test_a_metric_script_is_loaded_by_its_path(tmp_path, corpus):
    script = tmp_path / "share_of_letters.py"
    script.write_text(
        "import datasets\nimport evaluate\n"
        "class ShareOfLetters(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        text = datasets.Value('string')\n"
        "        return evaluate.MetricInfo(description='', citation='', inputs_description='',\n"
        "            features=datasets.Features({'predictions': text, 'references': text}))\n"
        "    def _compute(self, predictions, references):\n"
        "        return {'share': sum(map(len, predictions)) / sum(map(len, references))}\n"
    )
    predictions, references, groups = corpus
    expected = [sum(len(predictions[i]) for i in g) / sum(len(references[i]) for i in g) for g in groups]
    np.testing.assert_allclose(GroupMetric(str(script))(*corpus), expected)


def picky(predictions, references):
    if "" in predictions:
        raise ZeroDivisionError("empty prediction")
    return 1.0


def test_groups_that_a_metric_cannot_score_are_nan_and_counted_once_with_an_example():
    groups = np.array([[0, 2], [1, 2], [2, 0], [0, 2], [1, 0]])
    message = r"could not score 2 of 5 groups.*Division.*: empty prediction — on group 1: .*\['', 'b'\].*\['x', 'y'\]"
    with pytest.warns(UserWarning, match=message) as warned:
        scores = GroupMetric(picky, lower_is_better=True)(["a", "", "b"], ["w", "x", "y"], groups)
    np.testing.assert_array_equal(scores, [-1, np.nan, -1, -1, np.nan])
    assert len(warned) == 1


def test_a_metric_that_cannot_score_most_groups_is_an_error_that_shows_the_first():
    message = r"raised ZeroDivisionError: empty prediction — on group 1: .*\['', 'b'\].*; more than half of 3 groups"
    with pytest.raises(RuntimeError, match=message):
        GroupMetric(picky)(["a", "", "b"], ["w", "x", "y"], np.array([[0, 2], [1, 2], [1, 0]]))


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_score_that_is_no_finite_number_is_one_that_was_not_given(value):
    def odd(predictions, references):
        return float(value) if predictions == ["a"] else 1.0

    with pytest.raises(RuntimeError, match=f"gave {value} — on group 0"):
        GroupMetric(odd)(["a"], ["b"], np.array([[0]]))
    with pytest.warns(UserWarning, match=f"gave {value}"):
        scores = GroupMetric(odd)(["a", "b"], ["b", "b"], np.array([[0], [1], [1]]))
    np.testing.assert_array_equal(scores, [np.nan, 1, 1])


def test_a_large_group_is_not_shown_as_a_whole():
    with pytest.raises(RuntimeError, match=r"\(500 in all\)") as raised:
        GroupMetric(picky)([""] * 500, ["x"] * 500, np.array([range(500)]))
    assert len(str(raised.value)) < 1500


def test_a_metric_that_cannot_be_loaded_names_what_can_be(monkeypatch):
    monkeypatch.setattr(evaluate, "load", lambda name: (_ for _ in ()).throw(ConnectionError("offline")))
    with pytest.raises(
        ValueError, match=r"metric='meteor' could not be loaded \(ConnectionError: offline\).*'sacrebleu'"
    ):
        GroupMetric("meteor")


def test_something_that_is_no_metric_is_refused():
    with pytest.raises(ValueError, match="metric=3 must be"):
        GroupMetric(3)
    with pytest.raises(ValueError, match=r"metric=BLEU is a class: pass an object of it, BLEU\(\)"):
        GroupMetric(BLEU)
