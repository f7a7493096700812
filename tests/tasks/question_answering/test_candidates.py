"""Predictions of questions, perturbed and decoded from what is stored of them."""

import pytest
import torch
from toy_abstention import TOKENIZER, as_predictions, drawn, make_features, warm_model

from reloss_hf import Predictions
from reloss_hf.tasks.functional import as_bytes, from_bytes
from reloss_hf.tasks.question_answering.preparation import GoldSpansCollator
from reloss_hf.tasks.question_answering.spans import best_spans
from reloss_hf.tasks.question_answering.task import QuestionAnsweringTask

COLUMNS = ["input_ids", "token_type_ids", "attention_mask", "start_positions", "end_positions", "gold_spans"]
COLUMNS += ["context_span"]


@pytest.fixture(scope="module")
def stored():
    """Predictions of windows in batches of different lengths, by a model that abstains now and then."""
    model = warm_model().eval()
    task, parts = QuestionAnsweringTask(model, TOKENIZER), []
    collate = GoldSpansCollator(lambda rows: TOKENIZER.pad(rows, return_tensors="pt"))
    for length in (14, 64):  # windows of long contexts, too
        rows = make_features(60, length=length, golds=2).select_columns(COLUMNS)
        inputs = dict(collate([rows[row] for row in range(len(rows))]))
        with torch.no_grad():
            outputs = model(**{name: inputs[name] for name in COLUMNS[:3]})
        parts.append(task.predictions(outputs, inputs, 0))
    return Predictions.concatenate(parts)


def test_predictions_are_decoded_from_their_features_alone(stored):
    decoded = QuestionAnsweringTask.decode(stored.features, ()).tolist()
    assert [(row["id"], row["prediction_text"]) for row in decoded] == [
        (row["id"], row["prediction_text"]) for row in stored.predictions
    ]
    for row, other in zip(decoded, stored.predictions, strict=True):
        assert row["no_answer_probability"] == pytest.approx(other["no_answer_probability"], abs=1e-5)
    texts = [row["prediction_text"] for row in decoded]
    assert 0 < texts.count("") < len(texts) and len(set(texts)) > 10
    assert [row["id"] for row in decoded] == [row["id"] for row in stored.references]


def test_what_is_saved_is_decoded_likewise(stored, tmp_path):
    stored.save(tmp_path)
    loaded = Predictions.load(tmp_path)
    assert (
        QuestionAnsweringTask.decode(loaded.features, ()).tolist()
        == QuestionAnsweringTask.decode(stored.features, ()).tolist()
    )


def test_gold_answers_can_be_chosen(stored):
    features = stored.features
    for column, name in enumerate(("start_log_probs", "end_log_probs")):
        gold = features["gold_spans"][:, 0, column : column + 1]
        features = features | {name: features[name].scatter(1, gold, 50.0)}
    for row, reference in zip(QuestionAnsweringTask.decode(features, ()), stored.references, strict=True):
        golds = reference["answers"]["text"]
        assert row["prediction_text"] in (golds or [""])


def test_copies_abstain_more_and_less_and_give_other_spans(stored):
    count = 24
    copies = QuestionAnsweringTask.perturbed(stored.features, count, torch.Generator().manual_seed(0))
    assert all(len(value) == count * len(stored) for value in copies.values())
    decoded = QuestionAnsweringTask.decode(copies, ()).reshape(count, -1)
    own = [row["prediction_text"] for row in stored.predictions]
    abstained = [sum(row["prediction_text"] == "" for row in copy) for copy in decoded]
    assert min(abstained) < own.count("") < max(abstained)
    changed = [
        text for copy in decoded for text, mine in zip(copy, own, strict=True) if text["prediction_text"] != mine
    ]
    assert 0.02 < len(changed) / decoded.size < 0.6
    assert len({(row["id"], row["prediction_text"]) for row in changed if row["prediction_text"]}) > 20


def test_the_kept_spans_are_those_that_a_perturbed_model_prefers(stored):
    copies = QuestionAnsweringTask.perturbed(stored.features, 8, torch.Generator().manual_seed(0))
    start, end = copies["start_log_probs"], copies["end_log_probs"]
    best, scores = best_spans(start, end, copies["context_mask"])
    spans = copies["spans"]
    found = (spans == best.unsqueeze(1)).all(2).any(1)
    answered = scores > (start + end)[copies["null_mask"]]
    assert found[answered].float().mean() > 0.98


def test_the_same_generator_draws_the_same_copies_and_strength_makes_them_stronger(stored):
    def copies(strength):
        found = QuestionAnsweringTask.perturbed(stored.features, 2, torch.Generator().manual_seed(1), strength)
        return found["start_log_probs"][: len(stored)][stored.features["position_mask"]]

    own = stored.features["start_log_probs"][stored.features["position_mask"]]
    assert torch.equal(copies(1.0), copies(1.0))
    assert (copies(3.0) - own).abs().mean() > 1.5 * (copies(1.0) - own).abs().mean()


def test_a_model_that_never_abstains_has_copies_that_do():
    features = as_predictions(drawn(200, offset=-8.0)).features
    decoded = QuestionAnsweringTask.decode(features, ())
    assert sum(row["prediction_text"] == "" for row in decoded) == 0
    copies = QuestionAnsweringTask.perturbed(features, 24, torch.Generator().manual_seed(0), 3.0)
    assert any(row["prediction_text"] == "" for row in QuestionAnsweringTask.decode(copies, ()))


def test_texts_survive_as_bytes():
    texts = ["", "Straße 東京", "a", " b \t", "x" * 90]
    assert from_bytes(as_bytes(texts)) == texts
    assert from_bytes(as_bytes(["", ""])) == ["", ""]


def test_a_batch_whose_answers_all_lie_behind_its_end_has_no_predictions():
    windows = TOKENIZER(["which animals ?"] * 2, ["dog cat"] * 2, return_tensors="pt")
    inputs = dict(windows) | {name: torch.full((2,), 50) for name in ("start_positions", "end_positions")}
    model = warm_model().eval()
    with torch.no_grad():
        outputs = model(**windows)
    found = QuestionAnsweringTask(model, TOKENIZER).predictions(outputs, inputs, 0)
    assert len(found) == 0 and found.features["span_texts"].shape[0] == 0


def test_predictions_without_spans_are_refused():
    features = drawn(30)
    with pytest.raises(ValueError, match=r"hold no \['spans', 'span_texts', 'window_ids'\].*collect them again"):
        QuestionAnsweringTask.decode(features, ())
