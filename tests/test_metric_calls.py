"""Metrics as people pass them: modules, their methods, partials, and functions in either order."""

import functools

import evaluate
import jiwer
import numpy as np
import pytest
import sklearn.metrics
from toy_metrics import Module, Share, anything, keywords_alone

from reloss_hf import GroupMetric

PAIR = (["A", "b", "c", "x"], ["a", "b", "d", "x"], np.array([[0, 1, 2], [0, 1, 3], [2, 2, 3]]))
CLASSES = ([0, 1, 1, 1, 0, 1], [0, 1, 0, 0, 0, 1], np.array([range(6), [0, 1, 2, 0, 1, 2]]))
SPEECH = (["a b c", "x"], ["a b c", "x y z w"], np.array([[0, 1]]))


class Length(Module):
    def _compute(self, predictions, references):
        return {"length": len("".join(predictions))}


class Bootstrapped(Module):
    def _compute(self, predictions, references):
        hits = np.array([p == r for p, r in zip(predictions, references, strict=True)], dtype=float)
        return {"score": np.mean([np.random.choice(hits, len(hits)).mean() for _ in range(10)])}


def by_compute(module, key, **options):
    predictions, references, groups = PAIR
    return [
        module.compute(predictions=[predictions[i] for i in g], references=[references[i] for i in g], **options)[key]
        for g in groups
    ]


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: Share(), None),
        (lambda: Share().compute, None),
        (lambda: functools.partial(Share().compute), None),
        (lambda: functools.partial(Share().compute, lower=True), None),
        (lambda: functools.partial(functools.partial(Share().compute, lower=False), lower=True), None),
        (lambda: Share(), {"lower": True}),
        (lambda: Share().compute, {"lower": True}),
        (lambda: functools.partial(Share().compute, lower=False), {"lower": True}),
    ],
)
def test_a_module_or_its_compute_gives_what_compute_gives_with_the_same_settings(make, options):
    metric = make()
    lower = (options or getattr(metric, "keywords", {})).get("lower", False)
    scores = GroupMetric(metric, options=options)(*PAIR)
    assert scores.tolist() == by_compute(Share(), "share", lower=lower)
    assert len(set(scores)) > 1


def test_compute_writes_no_files_for_a_group(monkeypatch):
    monkeypatch.setattr(evaluate.EvaluationModule, "_finalize", lambda *_, **__: pytest.fail("a file was written"))
    for metric in (Share().compute, functools.partial(Share().compute, lower=True), evaluate.combine([Share()])):
        assert GroupMetric(metric)(*PAIR).max() > 0


def test_combined_modules_take_a_key_and_each_the_options_that_it_knows():
    combined = evaluate.combine([Share(), Length()])
    for metric in (combined, combined.compute):
        assert GroupMetric(metric, "share", options={"lower": True})(*PAIR).tolist() == by_compute(
            Share(), "share", lower=True
        )
        assert GroupMetric(metric, "length")(*PAIR).tolist() == [3, 3, 3]
    twice = evaluate.combine({"one": Share(), "other": Share()})
    assert GroupMetric(twice, "other_share")(*PAIR).tolist() == by_compute(Share(), "share")
    assert GroupMetric(combined, "share").name == "share+length:share"
    with pytest.raises(ValueError, match=r"'share\+length' has no option 'upper'; it accepts \['lower'\]"):
        GroupMetric(combined, "share", options={"upper": True})


def test_a_module_that_samples_scores_as_compute_does_each_time_and_leaves_numpy_alone():
    module = Bootstrapped()
    expected = by_compute(module, "score")
    before = np.random.get_state()
    for metric in (module, module.compute, evaluate.combine([module])):
        scores = GroupMetric(metric)
        assert [scores(*PAIR).tolist() for _ in range(2)] == [expected] * 2
    assert all(np.array_equal(a, b) for a, b in zip(before, np.random.get_state(), strict=True))


def test_a_function_that_samples_scores_the_same_each_time_and_leaves_numpy_alone():
    before = np.random.get_state()[1].copy(), np.random.get_state()[2]
    scores = [GroupMetric(lambda p, r: np.random.rand())(*PAIR).tolist() for _ in range(2)]
    assert scores[0] == scores[1]
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert before[1] == np.random.get_state()[2]


def test_a_module_that_wants_arrays_gets_them():
    class Arrays(Module):
        def _info(self):
            info = super()._info()
            info.format = "numpy"
            return info

        def _compute(self, predictions, references):
            return {"equal": (predictions == references).mean()}

    assert GroupMetric(Arrays())(*PAIR).tolist() == by_compute(Arrays(), "equal")


def test_a_module_with_a_compute_of_its_own_is_computed_by_it():
    class Own(Share):
        def compute(self, *, predictions=None, references=None):
            """Half."""
            return {"half": 0.5}

    assert GroupMetric(Own())(*PAIR).tolist() == [0.5, 0.5, 0.5]


def test_a_module_that_needs_more_than_predictions_and_references_is_refused():
    class Quality(Module):
        columns = ("sources", "predictions", "references")

        def _compute(self, sources, predictions, references):
            return 0.0

    with pytest.raises(ValueError, match=r"'quality' needs \['sources'\].*predictions and references alone"):
        GroupMetric(Quality())


@pytest.mark.parametrize("function", [jiwer.wer, jiwer.cer, jiwer.mer])
def test_functions_of_jiwer_take_the_reference_first_and_are_error_rates(function):
    assert GroupMetric(function)(*SPEECH).tolist() == [-function(reference=SPEECH[1], hypothesis=SPEECH[0])]
    assert GroupMetric(function, lower_is_better=False)(*SPEECH) == -GroupMetric(function)(*SPEECH)


def test_a_function_of_scikit_learn_is_called_by_name_with_its_options():
    predictions, references, groups = CLASSES

    def expected(function, **options):
        return [function([references[i] for i in g], [predictions[i] for i in g], **options) for g in groups]

    for name, options in (("precision_score", {}), ("f1_score", {"average": "macro"}), ("fbeta_score", {"beta": 2})):
        function = getattr(sklearn.metrics, name)
        assert GroupMetric(function, options=options)(*CLASSES).tolist() == expected(function, **options)
        partial = functools.partial(function, **options)
        assert GroupMetric(partial)(*CLASSES).tolist() == expected(function, **options)
        assert GroupMetric(partial).name == name
    recall, precision = sklearn.metrics.recall_score, sklearn.metrics.precision_score
    assert expected(recall) != expected(precision)
    by_class = {"average": None, "zero_division": 0}
    macro = expected(recall, average="macro", zero_division=0)
    np.testing.assert_allclose(GroupMetric(recall, options=by_class)(*CLASSES), macro)
    assert GroupMetric(sklearn.metrics.hamming_loss)(*CLASSES).max() < 0


def hidden(**inputs):
    return keywords_alone(**inputs)


def reversed_names(references, predictions):
    return keywords_alone(predictions=predictions, references=references)


def positional_alone(y_true, y_pred, /):
    return keywords_alone(predictions=y_pred, references=y_true)


def one_name(hypotheses, golds):
    return anything(hypotheses, golds)


def other_name(guesses, references):
    return anything(guesses, references)


def star(*arguments):
    return anything(*arguments)


def with_a_target_of_its_own(p, r, target=0.5):
    return anything(p, r)


@functools.wraps(reversed_names)
def decorated(*arguments, **keywords):
    return reversed_names(*arguments, **keywords)


@functools.wraps(reversed_names)
def decorated_by_name(p, r):
    return reversed_names(r, p)


class Scorer:
    def __call__(self, target, preds):
        return keywords_alone(predictions=preds, references=target)

    def score(self, reference, hypothesis):
        return self(reference, hypothesis)


@pytest.mark.parametrize(
    "function",
    [
        keywords_alone,
        hidden,
        reversed_names,
        positional_alone,
        anything,
        one_name,
        other_name,
        star,
        with_a_target_of_its_own,
        decorated,
        decorated_by_name,
        Scorer(),
        Scorer().score,
        functools.partial(reversed_names),
        lambda p, r: anything(p, r),
    ],
)
def test_predictions_and_references_find_their_parameters(function):
    assert GroupMetric(function)(["ab"], ["c"], np.array([[0]])).tolist() == [21]


def test_a_function_without_a_signature_is_called_by_position():
    group = ([4, 2], [3, 5], np.array([[0, 1]]))
    assert GroupMetric(max)(*group).tolist() == [3]  # of [4, 2] and [3, 5] the larger, its mean


def test_lower_is_better_for_modules_and_numbers_that_are_called_like_error_rates():
    class Wer(Module):
        def _compute(self, predictions, references):
            return 0.25

    group = (["a"], ["b"], np.array([[0]]))
    assert GroupMetric(Wer())(*group) == -0.25
    assert GroupMetric(Wer(), lower_is_better=False)(*group) == 0.25
    both = GroupMetric(lambda p, r: {"wer": 0.5, "accuracy": 0.75}, "wer")
    assert both(*group) == -0.5
    assert both.lower_is_better
    assert GroupMetric(lambda p, r: {"wer": 0.5, "accuracy": 0.75}, "accuracy")(*group) == 0.75
    alone = GroupMetric(lambda p, r: {"cer": 0.5})
    assert alone(*group) == -0.5
    assert alone.lower_is_better
    assert GroupMetric(lambda p, r: 0.5, lower_is_better=True)(*group) == -0.5
