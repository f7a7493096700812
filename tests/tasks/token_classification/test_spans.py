"""seqeval by name: its own values, for one group or for many at once, by every scheme."""

import sys
import time

import evaluate
import numpy as np
import pytest
from datasets import Features, Sequence, Value
from seqeval.metrics import f1_score

from reloss_hf import GroupMetric
from reloss_hf.tasks.token_classification.metrics import SeqevalMetric

STRICT = {"IOB1": "BI", "IOB2": "BI", "IOE1": "IE", "IOE2": "IE", "IOBES": "BIES", "BILOU": "BILU"}
CASES = [({}, "BIES"), ({"suffix": True}, "BIES"), ({"scheme": "IOB2"}, "BI")]
CASES += [({"scheme": scheme, "mode": "strict"}, prefixes) for scheme, prefixes in STRICT.items()]
CASES += [({"scheme": "IOBES", "mode": "strict", "suffix": True}, "BIES")]


def random_tags(prefixes, suffix=False, groups=8, size=10, seed=0):
    """Gold tags of sentences, and predictions that keep most of them; also sentences of one word."""
    draw = np.random.default_rng(seed)
    kinds = ["PER", "LOC", "A-B"]
    tags = ["O", "O", *(f"{k}-{p}" if suffix else f"{p}-{k}" for p in prefixes for k in kinds)]
    lengths = draw.integers(1, 12, groups * size)
    references = [draw.choice(tags, length).tolist() for length in lengths]
    predictions = [[tag if draw.random() < 0.7 else str(draw.choice(tags)) for tag in row] for row in references]
    return predictions, references, np.arange(groups * size).reshape(groups, size)


@pytest.mark.parametrize(("options", "prefixes"), CASES)
def test_many_groups_at_once_have_the_values_of_seqeval(options, prefixes):
    predictions, references, groups = random_tags(prefixes, options.get("suffix", False))
    metric = SeqevalMetric(**options)
    for key in ("overall_f1", "overall_precision", "overall_recall", "overall_accuracy", "PER.f1", "A-B.recall"):
        scores = GroupMetric(metric, key)(predictions, references, groups)
        for score, rows in zip(scores, groups, strict=True):
            result = metric([predictions[row] for row in rows], [references[row] for row in rows])
            for part in key.split("."):
                result = result[part]
            assert score == pytest.approx(result, abs=1e-12)


class Seqeval(evaluate.Metric):
    """The module of `evaluate`, so far as it is needed here."""

    def _info(self):
        tags = Sequence(Value("string"))
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="", features=Features(predictions=tags, references=tags)
        )

    def _compute(self, predictions, references):
        raise AssertionError("never asked, because the package computes it")


Seqeval.name = "seqeval"


@pytest.mark.parametrize("metric", ["seqeval", Seqeval()])
def test_the_main_number_is_the_f1_of_all_entities_by_name_and_as_a_module(metric):
    predictions, references, groups = random_tags("BI")
    metric = GroupMetric(metric)
    scores = metric(predictions, references, groups)
    assert metric.result_key == "overall_f1"
    for score, rows in zip(scores, groups, strict=True):
        truth = f1_score([references[row] for row in rows], [predictions[row] for row in rows])
        assert score == pytest.approx(truth, abs=1e-12)


def test_the_result_has_the_keys_of_the_module():
    predictions, references, _ = random_tags("BI")
    result = SeqevalMetric()(predictions, references)
    assert set(result) == {f"overall_{n}" for n in ("precision", "recall", "f1", "accuracy")} | {"PER", "LOC", "A-B"}
    assert set(result["PER"]) == {"precision", "recall", "f1", "number"}
    pairs = [pair for rows in zip(predictions, references, strict=True) for pair in zip(*rows, strict=True)]
    assert result["overall_accuracy"] == pytest.approx(sum(left == right for left, right in pairs) / len(pairs))


def test_a_group_without_entities_is_worth_0_without_a_warning(recwarn):
    scores = GroupMetric("seqeval")([["O"], ["O", "O"]], [["O"], ["O", "O"]], np.array([[0, 1], [1, 0]]))
    assert scores.tolist() == [0, 0] and not recwarn.list


def test_fifty_candidates_of_256_sentences_take_well_under_a_second():
    predictions, references, groups = random_tags("BI", groups=50, size=256)
    started = time.perf_counter()
    GroupMetric("seqeval")(predictions, references, groups)
    assert time.perf_counter() - started < 2  # 0.2 s on an idle core


@pytest.mark.parametrize("tag", ["PER", "LABEL_1", "L-PER", "PER-B"])
def test_tags_outside_of_the_scheme_are_named(tag):
    with pytest.raises(ValueError, match=f"tags .*{tag}.* are outside of scheme=None"):
        SeqevalMetric()([["O", tag]], [["O", "B-PER"]])


def test_tags_of_another_scheme_are_named():
    metric = GroupMetric("seqeval", options={"scheme": "IOB2", "mode": "strict"})
    with pytest.raises(ValueError, match="'S-PER'.* outside of scheme='IOB2'.*B-, I-: rename"):
        metric([["S-PER"], ["O"]], [["S-PER"], ["O"]], np.array([[0], [1]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "BIO"}, "scheme='BIO' must be one of .*'IOB2'"),
        ({"mode": "lenient"}, "mode='lenient' must be 'strict' or None"),
        ({"schema": "IOB2"}, "'seqeval' has no option 'schema'; it accepts .*'scheme'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GroupMetric("seqeval", options=options)


def test_without_the_package_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "seqeval.metrics", None)
    with pytest.raises(ImportError, match=r"pip install 'reloss_hf\[tags\]'"):
        GroupMetric("seqeval")
