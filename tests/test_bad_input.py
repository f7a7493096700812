"""Bad input gets one clear error, before any training time is spent."""

import evaluate
import pytest
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, Trainer

from reloss_hf import (
    GroupMetric,
    OwnOutputSurrogate,
    ReLossTrainer,
    TokenErrorProbability,
)

REFUSED = [
    ({"surrogate_start": 30}, {}, "surrogate_start=30 lies beyond the run, which has 30 steps"),
    ({"surrogate_start": -1}, {}, "surrogate_start=-1"),
    ({"surrogate_start": 1.5}, {}, "surrogate_start=1.5"),
    ({"surrogate_start": 0}, {}, "surrogate_start=0 leaves no predictions"),
    ({"surrogate_predictions": "sampled"}, {}, "surrogate_predictions='sampled' must be 'forced' or 'generate'"),
    ({"surrogate_cross_entropy_share": 2}, {}, "surrogate_cross_entropy_share=2"),
    ({"surrogate_snapshots": 0}, {}, "surrogate_snapshots=0"),
    (
        {"surrogate_snapshot_size": 4, "surrogate_group_size": 8},
        {},
        "surrogate_snapshot_size=4.*surrogate_group_size=8",
    ),
    ({"surrogate_class": "Nonesuch"}, {}, "no surrogate 'Nonesuch'"),
    ({"surrogate_class": "OwnOutputSurrogate"}, {}, "'OwnOutputSurrogate' reads the model's own.*'generate'"),
    ({}, {"metric": None}, "metric=None, but surrogate_class='LastTokensSurrogate' is.*pass metric=, or surrogate="),
    ({}, {"metric": None, "metric_key": "exact_match"}, "metric_key='exact_match'.*metric=None: pass metric="),
    ({}, {"metric": None, "lower_is_better": True}, "lower_is_better=True.*metric=None: pass metric="),
    ({}, {"metric": None, "metric_options": {"lowercase": True}}, "'lowercase': True.*metric=None: pass metric="),
    ({}, {"metric_options": {"Lowercase": True}}, r"metric_options: .* no option 'Lowercase'; it accepts"),
    ({}, {"metric": GroupMetric("chrf"), "metric_key": "score"}, "metric_key='score'.*pass them to the GroupMetric"),
    ({}, {"metric": lambda eval_prediction: {}}, r"cannot be called as \(predictions, references\)"),
    ({}, {"processing_class": None}, "processing_class=None.*pass the tokenizer"),
    ({}, {"train_dataset": []}, "train_dataset has 0 examples.*at least 27"),
    ({"surrogate_predictions": "generate"}, {"eval_dataset": None}, "pass surrogate_dataset="),
    ({}, {"compute_loss_func": print}, "compute_loss_func="),
    ({}, {"metric": lambda p, r: {"a": 1.0, "b": 2.0}}, r"\['a', 'b'\]: name one of them by metric_key="),
    ({}, {"metric": "/nonesuch/metric.py"}, "metric='/nonesuch/metric.py' could not be loaded"),
]


@pytest.mark.parametrize(("arguments", "trainer", "message"), REFUSED)
def test_bad_input_is_refused_before_any_step(build, monkeypatch, arguments, trainer, message):
    monkeypatch.setattr(Trainer, "training_step", lambda *_, **__: pytest.fail("a step was made"))
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    with pytest.raises((ValueError, RuntimeError), match=message):
        build(**arguments, trainer=trainer).train()


def test_arguments_of_the_plain_trainer_are_refused(toy_model):
    with pytest.raises(TypeError, match="pass ReLossTrainingArguments"):
        ReLossTrainer(model=toy_model(), args=None)


def test_labels_that_are_missing_are_named_at_the_first_step(build, toy_data):
    with pytest.raises(ValueError, match="no 'labels', only.*input_ids"):
        build(train=toy_data(64).remove_columns("labels")).train()


def test_a_surrogate_for_another_task_is_refused(build):
    class SpanLoss(TokenErrorProbability):
        task = "question_answering"

    with pytest.raises(ValueError, match="SpanLoss is for the task 'question_answering'.*'token_sequence'"):
        build(trainer={"surrogate": SpanLoss()})


def test_a_given_surrogate_of_the_own_output_of_a_decoder_only_model_is_refused(build, tokenizer):
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    with pytest.raises(ValueError, match="for a decoder-only model use"):
        build(model=LlamaForCausalLM(config), trainer={"surrogate": OwnOutputSurrogate()})


def test_a_model_that_is_neither_asked_nor_generates_is_refused(build, tokenizer):
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    with pytest.raises(ValueError, match="BertForMaskedLM neither generates text nor answers"):
        build(model=BertForMaskedLM(config))


def test_a_best_model_by_a_loss_that_changes_is_warned_about(build, caplog):
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}
    build(**best, metric_for_best_model="bleu")
    build(**best, surrogate_start=None)
    assert "compares the loss" not in caplog.text
    build(**best)
    assert "metric_for_best_model='loss' compares the loss before the switch with the surrogate" in caplog.text
