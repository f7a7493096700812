"""Features of words with tags: one tag for each word, in windows too, and scores of whole texts."""

import datasets
import numpy as np
import pytest
from tokenizers import normalizers, pre_tokenizers
from toy_tags import NAMES, make_model, make_sentences, make_tokenizer, make_trainer
from transformers import EvalPrediction

from reloss_hf import prepare_tagging_features, tag_names, tagging_compute_metrics
from reloss_hf.tasks.token_classification.metrics import SeqevalMetric


def sentence(words, tags, feature=None):
    rows = datasets.Dataset.from_dict({"tokens": [words], "ner_tags": [tags]})
    return rows if feature is None else rows.cast_column("ner_tags", datasets.Sequence(feature))


def test_the_first_token_of_a_word_has_its_tag():
    rows = sentence(["w1", "p1", "p2"], ["O", "B-PER", "I-PER"])
    features = prepare_tagging_features(rows, make_tokenizer(pieces=True), NAMES)
    assert features["labels"][0] == [-100, 0, -100, 1, -100, 2, -100, -100]
    assert len(features["input_ids"][0]) == 8 and features["text"][:] == [0]


@pytest.mark.parametrize("names", [None, NAMES])
def test_tags_may_be_names_or_numbers(names):
    shuffled = ["I-PER", "O", "B-PER"]
    declared = sentence(["w1", "p1", "p2"], [1, 2, 0], datasets.ClassLabel(names=shuffled))
    plain = sentence(["w1", "p1", "p2"], [1, 2, 0])
    expected = [1, 2, 0] if names is None else [0, 1, 2]
    assert prepare_tagging_features(declared, make_tokenizer(), names)["labels"][0][1:-1] == expected
    assert prepare_tagging_features(plain, make_tokenizer(), names)["labels"][0][1:-1] == [1, 2, 0]
    assert tag_names(declared) == shuffled
    assert tag_names(make_sentences(50)) == ["O", "B-LOC", "B-PER", "I-LOC", "I-PER"]


@pytest.mark.parametrize(("length", "stride"), [(10, 3), (10, 0), (7, 4), (64, 16)])
def test_each_word_of_a_long_text_has_its_tag_in_one_window_which_shows_most_around_it(length, stride):
    rows = make_sentences(6, longest=40)
    tokenizer = make_tokenizer()
    features = prepare_tagging_features(rows, tokenizer, NAMES, max_length=length, stride=stride)
    for number, row in enumerate(rows):
        windows = [window for window in features if window["text"] == number]
        tags = [NAMES[label] for window in windows for label in window["labels"] if label != -100]
        words = [
            tokenizer.convert_ids_to_tokens(token)
            for window in windows
            for token, label in zip(window["input_ids"], window["labels"], strict=True)
            if label != -100
        ]
        assert (words, tags) == (row["tokens"], row["ner_tags"])
        for place, window in enumerate(windows):
            tagged = np.flatnonzero(np.array(window["labels"]) != -100)
            if place and stride > 1:
                assert tagged[0] > stride // 2
    assert (len(features) > len(rows)) == (length < 40)


def test_scores_are_of_whole_texts():
    rows = make_sentences(20, longest=40)
    model = make_model()
    predicted = np.random.default_rng(0).integers(0, len(NAMES), (len(rows), 40))
    scores = []
    for length in (9, 64):
        features = prepare_tagging_features(rows, make_tokenizer(), NAMES, max_length=length, stride=3)
        logits, labels = np.zeros((len(features), 64, len(NAMES))), np.full((len(features), 64), -100)
        seen = [0] * len(rows)
        for place, window in enumerate(features):
            labels[place, : len(window["labels"])] = window["labels"]
            for token in np.flatnonzero(labels[place] != -100):
                text = window["text"]
                logits[place, token, predicted[text, seen[text]]] = 1
                seen[text] += 1
        scores.append(tagging_compute_metrics(model, features)(EvalPrediction(logits, labels)))
        ids = EvalPrediction(logits.argmax(-1), labels)
        assert tagging_compute_metrics(model, features)(ids) == scores[-1]
    assert scores[0] == scores[1]
    guesses = [[NAMES[tag] for tag in predicted[number, : len(row["tokens"])]] for number, row in enumerate(rows)]
    truth = SeqevalMetric()(guesses, rows["ner_tags"][:])
    assert scores[0]["overall_f1"] == pytest.approx(truth["overall_f1"])
    assert scores[0]["PER_recall"] == pytest.approx(truth["PER"]["recall"])


def test_predictions_of_other_features_are_refused():
    one, two = (prepare_tagging_features(make_sentences(4, seed=s), make_tokenizer(), NAMES) for s in (0, 1))
    labels = np.full((4, 16), -100)
    for place, row in enumerate(two["labels"]):
        labels[place, : len(row)] = row
    with pytest.raises(ValueError, match="the 4 predicted rows are not the 4 windows of features"):
        tagging_compute_metrics(make_model(), one)(EvalPrediction(np.zeros((4, 16, 5)), labels))


BAD = [
    (["w1"], ["O"], {"tokenizer": None}, "is slow and does not tell the words"),
    (["w1"], ["B-ORG"], {}, "the tag 'B-ORG' in row 0 is none of names="),
    (["w1"], ["O"], {"names": None}, "names=None, but the column 'ner_tags' holds names"),
    (["w1", "\u200b"], ["O", "O"], {}, "word .* in row 0 has no token.*tokenizer.unk_token='\\[UNK\\]'"),
    (["w1", "w2"], ["O"], {}, "row 0 has 2 words in 'tokens', but 1 tags"),
    (["w1"], ["O"], {"max_length": 8, "stride": 6}, "stride=6 must be at least 0, and less than the 6 tokens"),
]


@pytest.mark.parametrize(("words", "tags", "changes", "message"), BAD)
def test_bad_data_is_refused(words, tags, changes, message):
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    if "tokenizer" in changes:
        tokenizer = type("SlowTokenizer", (), {"is_fast": False})()
    keywords = {name: value for name, value in changes.items() if name != "tokenizer"}
    with pytest.raises(ValueError, match=message):
        prepare_tagging_features(sentence(words, tags), tokenizer, **{"names": NAMES} | keywords)


def test_a_tokenizer_that_cuts_on_the_left_is_refused():
    tokenizer = make_tokenizer()
    tokenizer.truncation_side = "left"
    with pytest.raises(ValueError, match="must be 'right'"):
        prepare_tagging_features(sentence(["w1"], ["O"]), tokenizer, NAMES)


@pytest.mark.parametrize("space", [False, True])
def test_a_tokenizer_that_puts_no_space_before_words_is_warned_of(space, caplog):
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    prepare_tagging_features(sentence(["w1"], ["O"]), tokenizer, NAMES)
    assert ("load it with add_prefix_space=True" in caplog.text) != space


def test_data_without_the_columns_is_refused():
    with pytest.raises(ValueError, match=r"has no columns \['tokens', 'ner_tags'\], only \['words'\]"):
        prepare_tagging_features(datasets.Dataset.from_dict({"words": [["a"]]}), make_tokenizer(), NAMES)
    with pytest.raises(ValueError, match="dataset is a list"):
        prepare_tagging_features([], make_tokenizer(), NAMES)
    with pytest.raises(ValueError, match="numbers without names, such as 3"):
        tag_names(sentence(["a"], [3]))


def test_all_windows_of_a_text_are_held_out_or_none(tmp_path):
    train = prepare_tagging_features(make_sentences(150, longest=40), make_tokenizer(), NAMES, max_length=10, stride=3)
    trainer = make_trainer(tmp_path, train, metric="seqeval")
    trained, held_out = set(trainer.train_dataset["text"][:]), set(trainer.learning.dataset["text"][:])
    assert len(held_out) == 15 and not trained & held_out and trained | held_out == set(range(150))
