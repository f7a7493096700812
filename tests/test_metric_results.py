"""What metrics return: one number, whatever it comes in."""

import functools
from dataclasses import dataclass

import jiwer
import numpy as np
import pytest
import sacrebleu
import torch
from scipy.stats import spearmanr
from sklearn.metrics import classification_report, f1_score

from reloss_hf import GroupMetric
from reloss_hf.learning.results import is_error_rate, number_of

NESTED = {"rouge1": {"low": {"fmeasure": 0.25}, "mid": {"fmeasure": 0.5}}, "rouge2": {"mid": {"fmeasure": 0.75}}}


@pytest.mark.parametrize(
    "result",
    [
        0.5,
        np.float32(0.5),
        np.array(0.5),
        np.array([0.5]),
        np.array([[0.5]]),
        np.array([0.25, 0.75]),
        torch.tensor(0.5),
        torch.tensor([0.5], requires_grad=True),
        torch.tensor([0.25, 0.75], dtype=torch.bfloat16),
        [0.25, 0.75],
        [torch.tensor(0.25), np.array([0.75])],
        {"accuracy": torch.tensor(0.5)},
        {"scores": {"accuracy": np.array([0.5])}},
        {"f1": [0.25, 0.75], "hashcode": "roberta-large"},
        {"accuracy": 0.5, "by_example": [0.0, 1.0, 1.0]},
        {"score": 0.5, "counts": [3, 4], "length": 12},
    ],
    ids=repr,
)
def test_one_number_is_found_in_whatever_a_metric_returns(result):
    assert number_of(result, main_keys=["score"])[0] == 0.5


@pytest.mark.parametrize(
    ("key", "number"),
    [("rouge1.mid.fmeasure", 0.5), ("rouge1.mid", 0.5), ("rouge2", 0.75), ("rouge1.low", 0.25), ("low.fmeasure", 0.25)],
)
def test_a_nested_number_is_named_by_its_path_or_by_as_much_of_either_end_as_fits_it_alone(key, number):
    assert number_of(NESTED, key)[0] == number


def test_named_tuples_and_dataclasses_are_read_as_dicts_are():
    ranks = functools.partial(lambda predictions, references: spearmanr(predictions, references))
    group = ([1, 2, 3, 4], [1, 3, 2, 4], np.array([range(4)]))
    assert GroupMetric(ranks, "statistic")(*group) == pytest.approx(0.8)

    @dataclass
    class Words:
        wer: float
        hits: int

    assert number_of(Words(0.25, 3), "wer") == (0.25, "wer")
    assert GroupMetric(jiwer.process_words, "wer")(["a b", "c"], ["a x", "c"], np.array([[0, 1]])) == -1 / 3


def test_a_score_of_sacrebleu_is_its_number():
    group = (["a b c d e"], ["a b c d f"], np.array([[0]]))
    expected = sacrebleu.corpus_bleu(["a b c d e"], [["a b c d f"]]).score
    assert GroupMetric(lambda p, r: sacrebleu.corpus_bleu(p, [r]))(*group) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("result", "key", "message"),
    [
        (None, None, "gave None instead of a number"),
        ("0.5", None, "gave '0.5' instead of a number"),
        ([], None, r"gave \[\] instead of a number"),
        ((0.5, 0.25), None, r"gave \(0.5, 0.25\) instead of a number: return one number, or a dict"),
        (object(), None, "instead of a number, a object"),
        (0.5, "f1", "metric_key='f1' names a part of the result, but the metric gave 0.5 alone"),
        ({}, None, "gave {}, in which there is no number"),
        ({"label": "good"}, "label", "'label' is not in the metric's result, {'label': 'good'}, in which there is no"),
        ({"a": 1.0, "b": [1.0]}, "c", r"metric_key='c' is not in the metric's result; pass one of \['a', 'b'\]"),
        ({"a": 1.0, "b": 2.0}, None, r"several numbers, \['a', 'b'\]: name one of them by metric_key="),
        ({"f1": [1.0, 0.5], "recall": [1.0, 0.5]}, None, r"several numbers, \['f1', 'recall'\]"),
        (NESTED, "fmeasure", r"fits several.*\['rouge1.low.fmeasure', 'rouge1.mid.fmeasure', 'rouge2.mid.fmeasure'\]"),
        ({"f1": [0.5, float("nan")]}, None, "gave nan for 'f1'"),
    ],
)
def test_an_error_shows_what_came_and_which_keys_there_are(result, key, message):
    with pytest.raises(ValueError, match=message):
        number_of(result, key)


def test_metrics_with_the_names_of_errors_are_error_rates():
    errors = [
        "wer",
        "WER",
        "cer",
        "ter",
        "mer",
        "mse",
        "speech.wer",
        "word_error_rate",
        "mean_squared_error",
        "log_loss",
    ]
    others = ["bleu", "f1", "accuracy", "answer", "integer", "wer+cer", "wip", "recall"]
    assert all(is_error_rate(name) for name in errors)
    assert not any(is_error_rate(name) for name in others)


def test_a_report_of_scikit_learn_is_a_nested_result():
    group = ([0, 1, 1], [0, 1, 0], np.array([[0, 1, 2]]))
    report = GroupMetric(classification_report, "macro avg.f1-score", options={"output_dict": True})
    assert report(*group) == pytest.approx(f1_score(group[1], group[0], average="macro"))
