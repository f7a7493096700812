"""SQuAD 2.0's scores by name: their own values, for one group or for many at once, and those of the best threshold."""

import time

import datasets
import numpy as np
import pytest
from toy_abstention import TOKENIZER
from toy_questions import SquadV2, make_examples
from transformers import EvalPrediction

from reloss_hf import GroupMetric, prepare_features, squad_compute_metrics
from reloss_hf.tasks.question_answering.metrics import SquadV2Metric
from reloss_hf.tasks.question_answering.scores import best_thresholds, squad_v2

WORDS = ["a", "the", "big", "Big!", "dog", "cat", "red", ""]


def random_answers(groups=12, size=20, seed=0):
    """Questions with none to three gold answers, and predictions, some of them right."""
    draw, predictions, references = np.random.default_rng(seed), [], []

    def text():
        return " ".join(draw.choice(WORDS, draw.integers(1, 4))).strip()

    for number in range(groups * size):
        golds = [text() for _ in range(draw.integers(0, 4))]
        right = golds[0] if golds else ""
        row = {"id": f"q{number}", "prediction_text": right if draw.random() < 0.4 else text()}
        predictions.append(row | {"no_answer_probability": draw.random()})
        references.append({"id": f"q{number}", "answers": {"text": golds, "answer_start": [0] * len(golds)}})
    return predictions, references, np.arange(groups * size).reshape(groups, size)


@pytest.mark.parametrize("key", ["f1", "exact", "HasAns_f1", "HasAns_exact", "NoAns_f1", "NoAns_exact", "total"])
def test_many_groups_at_once_have_the_values_of_one_after_another(key):
    predictions, references, groups = random_answers()
    scores = GroupMetric("squad_v2", key)(predictions, references, groups)
    assert len(set(scores.tolist())) > 3 or key == "total"
    for score, rows in zip(scores, groups, strict=True):
        pair = [predictions[row] for row in rows], [references[row] for row in rows]
        assert score == pytest.approx(squad_v2(*pair)[key]) == pytest.approx(SquadV2()._compute(*pair)[key])


def test_the_module_of_evaluate_is_computed_here_too_with_its_option():
    predictions, references, groups = random_answers()
    metric = GroupMetric(SquadV2(), options={"no_answer_threshold": 0.6})
    scores = metric(predictions, references, groups)
    assert metric.result_key == "f1"
    for score, rows in zip(scores, groups, strict=True):
        abstained = [
            predictions[row] | ({"prediction_text": ""} if predictions[row]["no_answer_probability"] > 0.6 else {})
            for row in rows
        ]
        assert score == pytest.approx(squad_v2(abstained, [references[row] for row in rows])["f1"])
    with pytest.raises(ValueError, match="'squad_v2' has no option 'threshold'; it accepts .*'no_answer_threshold'"):
        GroupMetric("squad_v2", options={"threshold": 0.5})


def test_a_group_without_a_kind_of_question_has_no_score_of_it():
    predictions, references, _ = random_answers()
    kinds = [bool(row["answers"]["text"]) for row in references]
    groups = np.array([[row for row, kind in enumerate(kinds) if kind is wanted][:10] for wanted in (True, False)])
    scores = SquadV2Metric().scores(np.array(predictions)[groups], np.array(references)[groups])
    assert np.isnan(scores["NoAns_f1"]).tolist() == [True, False]
    assert np.isnan(scores["HasAns_f1"]).tolist() == [False, True]


def test_predictions_in_another_order_are_scored_by_their_ids():
    predictions, references, groups = random_answers()
    order = groups[:, ::-1]
    straight, turned = (GroupMetric("squad_v2")(predictions, references, rows) for rows in (groups, order))
    assert straight.tolist() == pytest.approx(turned.tolist())
    mixed = SquadV2Metric()
    assert mixed.scores(np.array(predictions)[order], np.array(references)[groups]) is None


def test_a_question_that_is_drawn_twice_counts_twice():
    predictions, references, _ = random_answers()
    rows = np.array([[0, 0, 0, 1], [1, 1, 2, 3]])
    single = [squad_v2([predictions[row]], [references[row]])["f1"] for row in range(4)]
    scores = GroupMetric("squad_v2")(predictions, references, rows)
    assert scores.tolist() == pytest.approx([np.mean([single[row] for row in group]) for group in rows])


def test_fifty_candidates_of_256_questions_take_well_under_a_second():
    predictions, references, groups = random_answers(groups=50, size=256)
    started = time.process_time()
    GroupMetric("squad_v2")(predictions, references, groups)
    assert time.process_time() - started < 2  # 0.2 s on an idle core, as all texts differ


def test_the_best_threshold_is_the_best_of_all():
    draw = np.random.default_rng(1)
    for _ in range(20):
        golds = [["dog"] if draw.random() < 0.6 else [] for _ in range(15)]
        answers = [str(draw.choice(["dog", "cat", "big dog"])) for _ in golds]
        odds = draw.integers(-3, 3, len(golds)).astype(float)  # many are equal
        found = best_thresholds(answers, odds, golds)
        references = [{"id": i, "answers": {"text": texts}} for i, texts in enumerate(golds)]

        def score(threshold, answers=answers, odds=odds, references=references):
            texts = [text if odd <= threshold else "" for text, odd in zip(answers, odds, strict=True)]
            rows = [{"id": i, "prediction_text": text} for i, text in enumerate(texts)]
            return squad_v2(rows, references)

        thresholds = [-5, *np.unique(odds)]
        for name in ("exact", "f1"):
            assert found[f"best_{name}"] == pytest.approx(max(score(one)[name] for one in thresholds))
            assert found[f"best_{name}"] == pytest.approx(score(found[f"best_{name}_thresh"])[name])


@pytest.mark.parametrize("metric", ["squad_v2", SquadV2()])
@pytest.mark.parametrize("n_best", [1, 20])
def test_evaluation_abstains_by_an_empty_text_and_tells_the_threshold_that_would_be_best(metric, n_best):
    datasets.disable_progress_bars()
    examples = make_examples(60, unanswerable=0.4)
    windows = prepare_features(examples, TOKENIZER, 14, 3)
    logits = 3 * np.random.default_rng(0).normal(size=(2, len(windows), 17)).astype(np.float32)
    logits[:, range(len(windows)), windows["null_position"][:]] += 4

    def scores(threshold):
        compute = squad_compute_metrics(examples, windows, metric, threshold, n_best)
        return compute(EvalPrediction(tuple(logits), label_ids=None))

    never, default, always = (scores(threshold) for threshold in (1e6, 0.0, -1e6))
    assert (never["NoAns_f1"], always["NoAns_f1"], always["HasAns_f1"]) == (0, 100, 0)
    assert 0 < default["NoAns_f1"] < 100 and default["HasAns_f1"] > 0
    best = scores(default["best_f1_thresh"])
    assert best["f1"] == pytest.approx(default["best_f1"]) and best["f1"] >= max(default["f1"], always["f1"])
    assert never["best_f1"] == default["best_f1"] and never["best_f1_thresh"] == default["best_f1_thresh"]
