"""Word and character error rates by name are those of jiwer, over all texts together."""

import sys

import evaluate
import jiwer
import numpy as np
import pytest
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from reloss_hf import GroupMetric

REFERENCES = ["the cat sat", "a dog", "nothing was said here at all", "one"]
PREDICTIONS = ["the cat sat down", "dog", "nothing is said here", ""]


@pytest.mark.parametrize(("name", "function"), [("wer", jiwer.wer), ("cer", jiwer.cer)])
def test_the_rate_of_a_group_is_that_of_jiwer_and_no_mean_over_texts(name, function):
    metric, groups = GroupMetric(name), np.array([[0, 1, 2, 3], [0, 1, 1, 0]])
    found = -metric(PREDICTIONS, REFERENCES, groups)
    for rows, score in zip(groups, found, strict=True):
        references, predictions = ([texts[row] for row in rows] for texts in (REFERENCES, PREDICTIONS))
        assert score == pytest.approx(function(references, predictions))
    single = [function(*pair) for pair in zip(REFERENCES, PREDICTIONS, strict=True)]
    assert found[0] != pytest.approx(np.mean(single))
    assert metric.lower_is_better


def test_edits_by_kind_add_up_to_the_rate():
    rates = {key: -GroupMetric("wer", key)(PREDICTIONS, REFERENCES, [range(4)])[0] for key in
             ("wer", "substitutions", "deletions", "insertions")}  # fmt: skip
    assert rates["wer"] == pytest.approx(rates["substitutions"] + rates["deletions"] + rates["insertions"])
    assert rates == pytest.approx({"wer": 6 / 12, "substitutions": 1 / 12, "deletions": 4 / 12, "insertions": 1 / 12})


def test_texts_are_normalised_by_whisper_or_by_a_function_of_ones_own():
    said, written = ["Mr. Smith's colour, twenty-one"], ["mister smith is colour 21"]
    score = lambda **options: GroupMetric("wer", options=options)(said, written, [[0]])[0]  # noqa: E731
    assert score() < 0 and score(normalize="whisper") == 0 == score(normalize=EnglishTextNormalizer({}))
    assert GroupMetric("wer", options={"normalize": "whisper_basic"})(["Déjà, vu!"], ["déjà vu"], [[0]])[0] == 0
    assert GroupMetric("cer", options={"normalize": str.lower})(["AB"], ["ab"], [[0]])[0] == 0


def test_nothing_in_a_reference_is_scored():
    metric = GroupMetric("wer")
    assert metric(["", "a"], ["", "a"], [[0, 1]])[0] == 0
    assert metric(["x", "a"], ["", "a"], [[0, 1]])[0] == -1


class Wer(evaluate.Metric):
    """As the module of the hub, which needs a download."""

    name = "wer"

    def _info(self):
        features = {name: evaluate.info.Value("string") for name in ("predictions", "references")}
        return evaluate.MetricInfo("", "", evaluate.info.Features(features))

    def _compute(self, predictions=None, references=None):
        return jiwer.wer(references, predictions)


def test_a_module_is_called_as_it_is():
    module = GroupMetric(Wer())
    assert isinstance(module.metric, Wer) and module.lower_is_better
    assert module(PREDICTIONS, REFERENCES, [range(4)])[0] == -0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "lower"}, r"normalize='lower' must be one of \['whisper', 'whisper_basic'\], a function"),
        ({"lowercase": True}, r"'wer' has no option 'lowercase'; it accepts \['normalize'\]"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GroupMetric("wer", options=options)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ImportError, match=r"metric='wer' needs the package jiwer: pip install 'reloss_hf\[speech\]'"):
        GroupMetric("wer")
