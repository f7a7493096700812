"""Features from SQuAD's schema, answers from logits, and their scores."""

import itertools

import datasets
import numpy as np
import pytest
from toy_questions import FEATURES, Squad, SquadV2, make_examples, make_tokenizer
from transformers import EvalPrediction, PreTrainedTokenizer

from reloss_hf import GroupMetric, answers_from_logits, prepare_features, squad_compute_metrics


def rows(*examples):
    return datasets.Dataset.from_list([{"title": "", **example} for example in examples], features=FEATURES)


def question(name="a", context="red green , big dog , cat", text="big dog", start=12, **changes):
    answers = {"text": [text], "answer_start": [start]} if text is not None else {"text": [], "answer_start": []}
    return {"id": name, "context": context, "question": "which animals ?", "answers": answers} | changes


def answer_text(example, feature):
    first, last = (feature["offset_mapping"][feature[name]] for name in ("start_positions", "end_positions"))
    return example["context"][first[0] : last[1]]


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize("token_types", [True, False])
def test_windows_cover_the_context_overlap_and_know_where_the_answer_is(padding_side, token_types):
    examples = make_examples(60)
    tokenizer = make_tokenizer(padding_side, token_types)
    features = prepare_features(examples, tokenizer, max_length=14, doc_stride=3)
    assert ("token_type_ids" in features.column_names) == token_types
    assert len(features) > len(examples)
    found, pieces = set(), {}
    by_id = {example["id"]: example for example in examples}
    for feature in features:
        example = by_id[feature["example_id"]]
        pieces.setdefault(example["id"], []).append([pair for pair in feature["offset_mapping"] if pair is not None])
        assert feature["input_ids"][feature["null_position"]] == tokenizer.cls_token_id
        assert len(feature["input_ids"]) <= 14 and feature["answerable"]
        if feature["start_positions"] == feature["null_position"] == feature["end_positions"]:
            characters = {c for pair in pieces[example["id"]][-1] for c in range(*pair)}
            start = example["answers"]["answer_start"][0]
            assert not {start, start + len(example["answers"]["text"][0]) - 1} <= characters
        else:
            assert answer_text(example, feature) == example["answers"]["text"][0]
            found.add(example["id"])
    assert len(found) == len(examples)  # no answer is longer than what windows share
    for name, windows in pieces.items():
        assert all(set(map(tuple, a)) & set(map(tuple, b)) for a, b in itertools.pairwise(windows))
        context = by_id[name]["context"]
        assert {c for w in windows for a, b in w for c in range(a, b)} == {
            c for c, character in enumerate(context) if character != " "
        }


def test_answer_inside_of_a_token_is_the_whole_token_and_no_answer_the_null_position():
    inside = question(context="red green , big dog", text="ig do", start=13)
    features = prepare_features(rows(inside, question("b", text=None)), make_tokenizer(), 64, 8)
    assert answer_text(inside, features[0]) == "big dog"
    assert features["answerable"] == [True, False]
    assert features[1]["start_positions"] == features[1]["end_positions"] == features[1]["null_position"] == 0


def test_the_first_gold_answer_that_lies_where_it_says_is_trained_on():
    several = question(answers={"text": ["dog", "cat", "big dog"], "answer_start": [0, 22, 12]})
    (feature,) = prepare_features(rows(several), make_tokenizer(), 64, 8)
    assert answer_text(several, feature) == "cat"


def test_examples_with_misplaced_answers_are_counted_named_and_dropped(caplog):
    features = prepare_features(rows(question("good"), question("bad", start=3)), make_tokenizer(), 64, 8)
    assert features["example_id"] == ["good"]
    assert "1 of 2 examples dropped" in caplog.text and "bad" in caplog.text


@pytest.mark.parametrize("padding_side", ["right", "left"])
def test_overlong_questions_are_counted_named_and_dropped(caplog, padding_side):
    examples = rows(question("fits", question="dog " * 36), question("long", question="dog " * 37))
    features = prepare_features(examples, make_tokenizer(padding_side), 48, 8)
    assert features["example_id"] == ["fits"]
    assert "1 of 2 examples dropped" in caplog.text and "'long'" in caplog.text and "36 tokens" in caplog.text


def test_bad_input_is_named():
    tokenizer = make_tokenizer()
    with pytest.raises(ValueError, match=r"ids occur more than once.*'a'"):
        prepare_features(rows(question(), question()), tokenizer)
    with pytest.raises(ValueError, match=r"none of the 1 examples.*'long'.*36 tokens that max_length=48.*doc_stride=8"):
        prepare_features(rows(question("long", question="dog " * 40)), tokenizer, 48, 8)
    with pytest.raises(ValueError, match=r"no columns \['answers'\]"):
        prepare_features(rows(question()).remove_columns("answers"), tokenizer)
    with pytest.raises(ValueError, match="SlowTokenizer is slow"):
        prepare_features(rows(question()), SlowTokenizer())
    features = prepare_features(rows(question()), tokenizer, 64, 8)
    with pytest.raises(ValueError, match=r"2 rows.*1 windows"):
        answers_from_logits(np.zeros((2, 9)), np.zeros((2, 9)), features, rows(question()))
    with pytest.raises(ValueError, match=r"lacks 1 ids of features, such as \['a'\]"):
        answers_from_logits(np.zeros((1, 9)), np.zeros((1, 9)), features, rows(question("b")))
    with pytest.raises(ValueError, match=r"'squad' cannot score the 1 questions without an answer.*squad_v2"):
        squad_compute_metrics(rows(question(text=None)), features, "squad")


class SlowTokenizer(PreTrainedTokenizer):
    vocab_size = 1

    def get_vocab(self):
        return {"x": 0}


def official_answer(example, features, start_logits, end_logits, n_best, max_answer_length, null_threshold):
    """The rules of the official systems, one pair at a time."""
    places = [feature["null_position"] for feature in features]
    null = min(starts[i] + ends[i] for i, starts, ends in zip(places, start_logits, end_logits, strict=True))
    pairs = []
    for feature, starts, ends in zip(features, start_logits, end_logits, strict=True):
        offsets = feature["offset_mapping"]
        for start in sorted(range(len(starts)), key=lambda i, x=starts: -x[i])[:n_best]:
            for end in sorted(range(len(ends)), key=lambda i, x=ends: -x[i])[:n_best]:
                if start >= len(offsets) or end >= len(offsets) or offsets[start] is None or offsets[end] is None:
                    continue
                if start <= end and end - start + 1 <= max_answer_length:
                    text = example["context"][offsets[start][0] : offsets[end][1]]
                    pairs.append((starts[start] + ends[end], text))
    pairs = sorted(pairs, key=lambda pair: -pair[0])[:n_best] or [(0.0, "empty")]
    if null_threshold is not None and null - pairs[0][0] > null_threshold:
        return ""
    return pairs[0][1]


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize("null_threshold", [None, 0.0, 1.5, -3.0])
@pytest.mark.parametrize(("n_best", "longest"), [(20, 30), (3, 2), (1, 30)])
def test_answers_and_scores_equal_those_of_the_official_logic(padding_side, null_threshold, n_best, longest):
    examples = make_examples(80, unanswerable=0.0 if null_threshold is None else 0.4, golds=2)
    features = prepare_features(examples, make_tokenizer(padding_side), max_length=14, doc_stride=3)
    start, end = 3 * np.random.default_rng(0).normal(size=(2, len(features), 17)).astype(np.float32)
    answers = answers_from_logits(
        start, end, features, examples, n_best=n_best, max_answer_length=longest, null_threshold=null_threshold
    )
    owners = np.array(features["example_id"])
    expected = {}
    for example in examples:
        mine = np.flatnonzero(owners == example["id"])
        windows = [features[int(row)] for row in mine]
        expected[example["id"]] = official_answer(
            example, windows, start[mine], end[mine], n_best, longest, null_threshold
        )
    assert {answer.id: answer.text for answer in answers} == expected
    assert [answer.id for answer in answers] == examples["id"]
    assert len(set(expected.values())) > 8
    for answer in answers:
        assert sum(entry["probability"] for entry in answer.n_best) == pytest.approx(1)
        assert (answer.null_odds is None) == (null_threshold is None)

    module, name = (Squad(), "squad") if null_threshold is None else (SquadV2(), "squad_v2")
    scores = {}
    for metric in (module, name):
        compute = squad_compute_metrics(examples, features, metric, null_threshold or 0.0, n_best, longest)
        scores[metric] = compute(EvalPrediction(predictions=(start, end), label_ids=None))
    predictions = [{"id": k, "prediction_text": v, "no_answer_probability": 0.0} for k, v in expected.items()]
    references = [{"id": row["id"], "answers": row["answers"]} for row in examples]
    official = module._compute(predictions, references)
    for found in scores.values():
        assert {key: found[key] for key in official} == pytest.approx(official)
        assert ("best_f1" in found) == (null_threshold is not None)
    assert 0 < official["f1"] < 100


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("The Big, dog!", ["big dog"], 100, 100),
        ("big dog", ["cat", "a big red dog"], 0, 80),
        ("dog dog", ["dog cat"], 0, 50),
        ("the", ["a"], 100, 0),
        ("Straße", ["straße"], 100, 100),
        ("", ["cat"], 0, 0),
    ],
)
def test_squad_scores_of_known_answers(prediction, golds, exact, f1):
    pair = [{"id": "x", "prediction_text": prediction}], [{"id": "x", "answers": {"text": golds}}]
    for metric in ("squad", Squad()):
        assert GroupMetric(metric)(*pair, np.array([[0]])) == pytest.approx(f1)
        assert GroupMetric(metric, "exact_match")(*pair, np.array([[0]])) == exact


def test_squad_v2_wants_no_answer_where_there_is_none():
    predictions = [
        {"id": i, "prediction_text": t, "no_answer_probability": 0.0} for i, t in enumerate(["", "x", "", "the"])
    ]
    references = [{"id": i, "answers": {"text": t}} for i, t in enumerate([[], [], ["x"], ["a"]])]
    for metric in ("squad_v2", SquadV2()):
        scores = GroupMetric(metric)(predictions, references, np.array([[0], [1], [2], [3]]))
        assert scores.tolist() == [100, 0, 0, 100]
    assert GroupMetric("squad_v2", "NoAns_f1")(predictions, references, np.array([[0, 1, 2]])) == 50
    with pytest.raises(RuntimeError, match="no answer, which 'squad' cannot score: use 'squad_v2'"):
        GroupMetric("squad")(predictions, references, np.array([[0, 1]]))
