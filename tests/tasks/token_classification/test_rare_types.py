"""A type of entity that many sets of sentences lack can still be what a loss is learned for."""

import numpy as np
import pytest
from toy_tags import NAMES, make_sentences, make_tokenizer, make_trainer

from reloss_hf import GroupMetric, prepare_tagging_features
from reloss_hf.tasks.token_classification.metrics import SeqevalMetric

GOLD = [["B-PER", "O"], ["O", "B-PER"], ["B-LOC", "O"], ["O", "O"]]
FOUND = [["B-PER", "O"], ["O", "O"], ["B-LOC", "B-LOC"], ["O", "O"]]


def test_types_that_are_asked_for_have_scores_where_they_do_not_occur():
    groups = np.arange(4).reshape(2, 2)
    metric = SeqevalMetric(types=["LOC"])
    assert metric(FOUND[:2], GOLD[:2])["LOC"] == {"precision": 0, "recall": 0, "f1": 0, "number": 0}
    for key in ("LOC.f1", "LOC.precision", "overall_f1"):
        scores = GroupMetric(metric, key)(FOUND, GOLD, groups)
        one_by_one = [GroupMetric(metric, key)(FOUND, GOLD, groups[[row]])[0] for row in range(2)]
        assert scores == pytest.approx(one_by_one)
    assert GroupMetric(metric, "LOC.f1")(FOUND, GOLD, groups) == pytest.approx([0, 2 / 3])


def test_f1_of_a_rare_type_is_learned(tmp_path):
    def without_places(row, number):
        tags = [tag if number % 12 == 0 or tag[2:] != "LOC" else "O" for tag in row["ner_tags"]]
        return {"ner_tags": tags}

    sentences = make_sentences(400).map(without_places, with_indices=True)
    train = prepare_tagging_features(sentences, make_tokenizer(), NAMES)
    options = {"metric": "seqeval", "metric_key": "LOC.f1"}
    arguments = {"surrogate_group_size": 16, "surrogate_held_out_share": 0.3, "surrogate_learn_again": 0}
    trainer = make_trainer(tmp_path, train, arguments=arguments, **options)
    trainer.train()
    report = trainer.learning.report
    assert report.metric == "seqeval:LOC.f1" and report.groups_left_out == 0 and report.metric_spread > 0
