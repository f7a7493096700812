"""Bad input gets one clear error, before any training time is spent: all refusals in one list."""

from functools import partial

import evaluate
import pytest
import torch
import toy_classes
import toy_questions
from sacrebleu.metrics import BLEU
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
    ViTImageProcessor,
)

from reloss_hf import (
    ClassWeightedCrossEntropy,
    ExpectedF1Loss,
    GroupMetric,
    OwnOutputSurrogate,
    ReLossTrainer,
    TokenErrorProbability,
    prepare_features,
)


def word_model(cls, config, **changes):
    return cls(config(vocab_size=43, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, **changes))


def untouched_rows(count, **columns):
    return [{"input_ids": [3, 4, 1], **columns}] * count


class SpanLoss(TokenErrorProbability):
    task = "question_answering"


class NoLogits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, input_ids, labels=None):
        return {"loss": self.weight, "scores": self.weight}


class Pooled(NoLogits):
    """Logits of whole texts, for labels of tokens."""

    def forward(self, input_ids, labels=None):
        return {"loss": self.weight, "logits": self.weight.expand(len(input_ids), 3)}


class OneSpan(NoLogits):
    """Logits of fewer positions than the input has."""

    def forward(self, input_ids, start_positions=None, end_positions=None):
        logits = self.weight.expand(len(input_ids), 2)
        return {"loss": self.weight, "start_logits": logits, "end_logits": logits}


class Labelled(NoLogits):
    """Of a class that tells nothing, and of outputs that do: for classes."""

    def forward(self, input_ids, labels=None):
        return {"loss": self.weight, "logits": self.weight.expand(len(input_ids), 4)}


class NoGradient(TokenErrorProbability):
    def score(self, features):
        return super().score(features).detach()


def fails_on_words(predictions, references):
    if any(reference != "a small sentence to score" for reference in references):
        raise ZeroDivisionError("no letters")
    return 1.0


def swapped(gold, predictions):
    return 1.0


LLAMA = partial(word_model, LlamaForCausalLM, LlamaConfig, intermediate_size=8, pad_token_id=0, eos_token_id=1)
GIVEN = {"metric": None, "surrogate": TokenErrorProbability()}
OWN_OUTPUT = {"metric": None, "surrogate": OwnOutputSurrogate()}

# Models of text, by default a Marian: training arguments, arguments of the trainer, message.
TEXT = [
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
    ({"surrogate_class": "DraftSurrogate"}, {}, "'DraftSurrogate' reads the model's own.*'generate'"),
    ({}, {"metric": None}, "surrogate_class='LastTokensSurrogate' .* metric=None: pass metric=, or surrogate="),
    ({}, {"metric": None, "metric_key": "exact_match"}, "metric_key='exact_match'.*metric=None: pass metric="),
    ({}, {"metric": None, "lower_is_better": True}, "lower_is_better=True.*metric=None: pass metric="),
    ({}, {"metric": None, "metric_options": {"lowercase": True}}, "'lowercase': True.*metric=None: pass metric="),
    ({}, {"metric_options": {"Lowercase": True}}, r"metric_options: .* no option 'Lowercase'; it accepts"),
    ({}, {"metric": GroupMetric("chrf"), "metric_key": "score"}, "metric_key='score'.*pass them to GroupMetric"),
    ({}, {"metric": lambda eval_prediction: {}}, r"cannot be called as \(predictions, references\)"),
    ({}, {"processing_class": None}, "processing_class=None.*pass the tokenizer"),
    ({}, {"train_dataset": []}, "train_dataset has 0 examples.*at least 27"),
    ({"surrogate_predictions": "generate"}, {"eval_dataset": None}, "pass surrogate_dataset="),
    ({}, {"compute_loss_func": print}, "compute_loss_func="),
    ({}, {"metric": lambda p, r: {"a": 1.0, "b": 2.0}}, r"\['a', 'b'\]: name one of them by metric_key="),
    ({}, {"metric": "/nonesuch/metric.py"}, "metric='/nonesuch/metric.py' could not be loaded"),
    ({"surrogate_start": 1}, {}, "surrogate_start=1.* may mean the whole run or its first step: pass None"),
    ({"surrogate_held_out_share": 1}, {}, "surrogate_held_out_share=1 must be 0 or more, and below 1"),
    ({"surrogate_learn_again": -1}, {}, "surrogate_learn_again=-1 must be 0 or more"),
    ({"surrogate_snapshot_size": 0}, {}, "surrogate_snapshot_size=0 must be at least 1"),
    ({"surrogate_group_size": 0}, {}, "surrogate_group_size=0 must be at least 1"),
    ({}, {"task": "translation"}, r"task='translation' is none of \[.*'token_sequence'.*pass one of these"),
    ({}, {"surrogate": TokenErrorProbability}, r"TokenErrorProbability is a class: .*=TokenErrorProbability\(\)"),
    ({}, {"surrogate": "NgramSurrogate"}, "surrogate='NgramSurrogate' is the name of a class: .*surrogate_class="),
    ({}, {"surrogate": SpanLoss()}, "SpanLoss is for the task 'question_answering'.*'token_sequence'"),
    ({}, {"surrogate": "/nonesuch"}, "'/nonesuch' is no folder"),
    ({}, {"metric": GroupMetric("chrf"), "metric_options": {"beta": 1}}, "'beta': 1.*pass them to GroupMetric"),
    ({}, {"metric": BLEU}, r"metric=BLEU is a class: pass an object of it, BLEU\(\)"),
    ({}, {"metric": BLEU(), "metric_options": {"lowercase": True}}, r"come too late for a BLEU .*pass BLEU\(\.\.\.\)"),
    ({}, {"metric": 7}, "metric=7 must be an evaluate module"),
    ({}, {"metric_options": [1]}, r"metric_options=\[1\] must be a dict"),
    ({}, {"metric": lambda p, r: "good"}, "the metric gave 'good'.* instead of a number"),
    ({}, {"metric": lambda p, r: float("nan")}, "the metric gave nan"),
    ({}, {"metric": lambda p, r: {}}, "in which there is no number"),
    ({}, {"metric_key": "f1"}, "metric_key='f1' names a part of the result, but the metric gave .* alone"),
    ({}, {"metric": lambda p, r: {"a": 1.0}, "metric_key": "f1"}, r"metric_key='f1' is not in .*pass one of \['a'\]"),
    ({}, {"metric": swapped}, "'predictions' is not where .*pass a function that says so"),
    ({}, {"metric": lambda p, r, *, weight: 1.0}, "missing a required argument: 'weight'.* by metric_options="),
    ({}, {"metric": fails_on_words}, "Before the first step, .*metric='fails_on_words'.*no letters.* Pass another met"),
    ({}, {"metric": None, "surrogate": NoGradient()}, "surrogate=NoGradient.*depends on no weight.* Pass another sur"),
    ({"surrogate_predictions": "generate"}, {"model": LLAMA}, "decoder-only model cannot be read: use .*'forced'"),
    ({}, {"model": LLAMA, **OWN_OUTPUT}, "decoder-only model cannot be read: use"),
    ({}, {"model": partial(word_model, BertForMaskedLM, BertConfig)}, "BertForMaskedLM neither generates text nor"),
    ({}, {"model": NoLogits, **GIVEN}, r"NoLogits with outputs \['loss', 'scores'\] .*pass task="),
    ({}, {"model": NoLogits, "task": "token_sequence", **GIVEN}, r"no \['logits'\], only .*return them beside"),
    ({}, {"model": Pooled, "task": "token_sequence", **GIVEN}, r"logits of shape \(32, 3\) for labels of shape"),
    ({}, {"processing_class": ViTImageProcessor()}, "processing_class=ViTImageProcessor.* or a processor that has one"),
    ({}, {"train_dataset": untouched_rows(99)}, "no 'labels', only.*input_ids.*DataCollatorForSeq2Seq"),
]  # fmt: skip

# Questions and classes, by default each with a BERT: likewise.
QUESTIONS = [
    ({}, {"metric": None, "surrogate": TokenErrorProbability()}, "is for the task 'token_sequence'"),
    ({"surrogate_predictions": "generate"}, {}, "generates nothing: .*surrogate_predictions='forced'"),
    ({}, {"processing_class": None}, "processing_class=None cannot tell where the context"),
    ({}, {"train_dataset": untouched_rows(99, token_type_ids=[0, 0, 0])}, "make features with reloss_hf.prepare_feat"),
    ({}, {"unanswerable": 0.5}, "cannot score questions without an answer.*pass metric='squad_v2'"),
    ({}, {"model": OneSpan, "task": "question_answering", "metric": None}, r"start_logits of shape .*one for each"),
]  # fmt: skip
CLASSES = [
    ({}, {"metric": None, "surrogate": ExpectedF1Loss()}, "is for the task 'question_answering'"),
    ({"surrogate_predictions": "generate"}, {}, "a model that .* generates nothing: .*'forced'"),
    ({}, {"metric": "f1"}, "metric 'f1' raised ValueError: Target is multiclass but average='binary'"),
    ({"surrogate_held_out_share": 0}, {}, "surrogate_held_out_share=0 leaves no examples.*pass surrogate_dataset="),
    ({"surrogate_held_out_share": 0.001}, {}, "has 1 examples, and at least .*pass a larger share"),
    ({"surrogate_class": "ClassWeightedCrossEntropy"}, {}, "'ClassWeightedCrossEntropy' cannot be learned"),
    ({}, {"metric": lambda predictions, references: 1.0}, "it does not depend on the predictions; pass another"),
    ({}, {"model": partial(toy_classes.make_model, classes=1)}, r"has a regression head \(num_labels=1.*plain Trainer"),
    ({}, {"model": partial(toy_classes.make_model, classes=3)}, r"labels \[3\] are no classes of the model, .*0 to 2"),
    ({}, {"train_dataset": untouched_rows(400)}, "no 'labels', only.*name the column of the classes 'labels'"),
    ({}, {"train_dataset": iter([])}, "has no length, so that no share .*pass surrogate_dataset="),
    (
        {}, {"metric": None, "surrogate": ClassWeightedCrossEntropy(frequencies=[0.5, 0.5])},
        r"frequencies=\[0.5, 0.5\] of ClassWeightedCrossEntropy do not fit the 4 classes",
    ),
]  # fmt: skip


@pytest.fixture
def refuse(monkeypatch):
    """Training, in which no step may be made, has to fail with the message."""
    monkeypatch.setattr(Trainer, "training_step", lambda *_, **__: pytest.fail("a step was made"))
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)

    def check(make, message):
        with pytest.raises((ValueError, RuntimeError), match=message):
            make().train()

    return check


@pytest.mark.parametrize(("arguments", "changes", "message"), TEXT)
def test_bad_input_for_text_is_refused_before_any_step(build, refuse, arguments, changes, message):
    changes = dict(changes)
    model = changes.pop("model", lambda: None)
    refuse(lambda: build(model=model(), **arguments, trainer=changes), message)


@pytest.mark.parametrize(("arguments", "changes", "message"), QUESTIONS)
def test_bad_input_for_questions_is_refused_before_any_step(refuse, tmp_path, arguments, changes, message):
    changes, tokenizer = dict(changes), toy_questions.make_tokenizer()
    model = changes.pop("model", toy_questions.make_model)
    examples = toy_questions.make_examples(100, unanswerable=changes.pop("unanswerable", 0.0))
    parts = {"train_dataset": prepare_features(examples, tokenizer, 64, 16), "processing_class": tokenizer}
    parts |= {"metric": "squad", "cls": ReLossTrainer, "arguments": {"surrogate_start": 0.5, **arguments}} | changes
    parts["train"] = parts.pop("train_dataset")
    refuse(lambda: toy_classes.make_trainer(tmp_path, model=model(), **parts), message)


@pytest.mark.parametrize(("arguments", "changes", "message"), CLASSES)
def test_bad_input_for_classes_is_refused_before_any_step(refuse, tmp_path, arguments, changes, message):
    changes = {"metric": "accuracy"} | changes
    model = changes.pop("model", toy_classes.make_model)
    changes["train"] = changes.pop("train_dataset", None)
    refuse(lambda: toy_classes.make_trainer(tmp_path, model=model(), arguments=arguments, **changes), message)


def test_the_folder_of_a_model_is_refused_as_a_surrogate_where_its_own_is_within(build, refuse, tmp_path):
    TokenErrorProbability().save_pretrained(tmp_path / "model" / "surrogate")
    refuse(
        lambda: build(trainer={"surrogate": tmp_path / "model"}),
        "is the folder of a model.*pass surrogate='.*/surrogate'",
    )


@pytest.mark.parametrize("given", [None, TrainingArguments, Seq2SeqTrainingArguments])
def test_arguments_of_other_trainers_are_refused(toy_model, tmp_path, given):
    base = "TrainingArguments" if given is None else given.__name__
    message = rf"pass ReLoss{base}, or an object of .* @dataclass class MyArguments\(ReLossArguments, {base}\): \.\.\."
    with pytest.raises(TypeError, match=message):
        ReLossTrainer(model=toy_model(), args=given and given(str(tmp_path), use_cpu=True))


def test_a_best_model_by_a_loss_that_changes_is_warned_about(build, caplog):
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}
    build(**best, metric_for_best_model="bleu")
    build(**best, surrogate_start=None)
    assert "compares the loss" not in caplog.text
    build(**best)
    assert "metric_for_best_model='loss' compares the loss before the switch with the surrogate" in caplog.text
