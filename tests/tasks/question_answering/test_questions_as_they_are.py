"""Models, answers and tokenizers for questions as people have them."""

import datasets
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn.functional import cross_entropy
from toy_questions import make_examples, make_model, make_tokenizer
from transformers import (
    GPT2Config,
    GPT2ForQuestionAnswering,
    LayoutLMv3Config,
    LayoutLMv3ForQuestionAnswering,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Trainer,
    TrainingArguments,
    WhisperFeatureExtractor,
    default_data_collator,
)

from reloss_hf import (
    ReLossTrainer,
    ReLossTrainingArguments,
    SharpenedF1Surrogate,
    SpanCrossEntropy,
    collect_predictions,
    prepare_features,
)
from reloss_hf.surrogate import surrogate_class

LOSSES = ("SpanCrossEntropy", "AnswersCrossEntropy", "AnswersSurrogate", "ExpectedF1Loss", "SpanSurrogateMLP")
LOSSES += ("OverlapSurrogate", "SharpenedF1Surrogate")
LEARNS = {"surrogate_snapshots": 2, "surrogate_snapshot_size": 16, "surrogate_group_size": 2}


@pytest.fixture(scope="module")
def tokenizer():
    datasets.disable_progress_bars()
    return make_tokenizer()


@pytest.fixture(scope="module")
def features(tokenizer):
    return prepare_features(make_examples(64), tokenizer, 64, 16)


def settings(folder, **changes):
    return {
        "output_dir": str(folder), "max_steps": 4, "per_device_train_batch_size": 16, "logging_steps": 1,
        "save_strategy": "no", "report_to": "none", "use_cpu": True, "disable_tqdm": True, **changes,
    }  # fmt: skip


@pytest.fixture
def make(tmp_path, tokenizer, features):
    def trainer(model, train=None, arguments=(), **keywords):
        args = ReLossTrainingArguments(**settings(tmp_path, **{"surrogate_start": 2} | dict(arguments)))
        parts = {"train_dataset": features if train is None else train, "processing_class": tokenizer}
        return ReLossTrainer(model, args, **parts | keywords)

    return trainer


def logs(trainer, name="loss"):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


class Pointers(nn.Module):
    """A model of the user's own, with a fixed signature."""

    def __init__(self, as_tuple=False, silent=False, strict=False):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Embedding(60, 16), nn.Linear(16, 2))
        self.as_tuple, self.silent, self.strict = as_tuple, silent, strict

    def forward(self, input_ids, start_positions=None, end_positions=None):
        start, end = self.net(input_ids).unbind(-1)
        outputs = {"start_logits": start, "end_logits": end}
        if self.strict or start_positions is not None:
            outputs["loss"] = cross_entropy(start, start_positions) + cross_entropy(end, end_positions)
        if self.silent and self.training and "loss" in outputs:
            outputs = {"loss": outputs["loss"]}
        names = [name for name in ("loss", "start_logits", "end_logits") if name in outputs]
        return tuple(outputs[name] for name in names) if self.as_tuple else outputs


class PointersQuestionAnswering(Pointers):
    """The Trainer knows by this name what its labels are."""


@pytest.mark.parametrize("as_tuple", [True, False])
@pytest.mark.parametrize("kind", ["plain", "silent", "strict"])
@pytest.mark.parametrize("cls", [Pointers, PointersQuestionAnswering])
def test_own_span_models_train_learn_evaluate_and_predict_under_any_name(make, features, cls, kind, as_tuple):
    def build():
        return cls(as_tuple, kind == "silent", kind == "strict")

    trainer = make(build(), surrogate=SharpenedF1Surrogate())
    trainer.train()
    assert trainer.surrogate_in_force and logs(trainer)[2] < 1 < logs(trainer)[1]
    assert trainer.evaluate(features)["eval_loss"] < 1
    if kind != "strict":
        unlabelled = features.remove_columns(["start_positions", "end_positions"])
        start, end = trainer.predict(unlabelled).predictions
        assert len(start) == len(end) == len(features)
        first, _ = make(build()).predict(unlabelled).predictions
        assert len(first) == len(features)
    learns = make(build(), metric="squad", arguments=LEARNS)
    learns.train()
    assert len(learns.predictions) == 2 * 2 * 16


def test_a_model_of_transformers_that_returns_tuples_is_trained_alike(make):
    def losses(**changes):
        model = make_model()
        for name, value in changes.items():
            setattr(model.config, name, value)
        trainer = make(model, surrogate=SharpenedF1Surrogate())
        trainer.train()
        return logs(trainer)

    assert losses(return_dict=False) == pytest.approx(losses())


def cut_off(features, change):
    rows = []
    for number, feature in enumerate(features.select(range(16))):
        names = ("input_ids", "attention_mask", "start_positions", "end_positions")
        row = {name: torch.tensor(feature[name]) for name in names}
        for name in names[:2]:
            row[name] = nn.functional.pad(row[name], (0, 24 - len(row[name])))
        for name in names[2:]:
            row[name] = change(number, row[name])
        rows.append(row)
    return rows


CUT = {
    "behind the window": lambda number, place: torch.tensor(24 + number % 3) if number % 4 == 1 else place,
    "negative": lambda number, place: torch.tensor(-1) if number % 4 == 1 else place,
    "a column": lambda number, place: place[None],
    "nowhere": lambda number, place: torch.tensor(24),
}


@pytest.mark.parametrize("change", CUT)
def test_answers_that_were_cut_off_count_as_they_do_for_the_model(make, features, tmp_path, change):
    rows = cut_off(features, CUT[change])
    plain = Trainer(make_model(), TrainingArguments(**settings(tmp_path)), train_dataset=rows)
    cross_entropy = {"surrogate_start": 0, "gradient_accumulation_steps": 4, "per_device_train_batch_size": 4}
    ours = make(make_model(), rows, cross_entropy, surrogate=SpanCrossEntropy())
    plain.train()
    ours.train()
    torch.testing.assert_close(ours.state.log_history[0]["loss"], logs(plain)[0] if change != "nowhere" else 0.0)
    assert logs(ours) == pytest.approx(logs(plain) if change != "nowhere" else [0.0] * 4, rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_batches_whose_answers_all_lie_behind_the_window_leave_losses_and_weights_finite(make, features, name):
    arguments = {"surrogate_start": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    rows = cut_off(features, CUT["nowhere"])
    trainer = make(make_model(), rows, arguments | {"logging_nan_inf_filter": False}, surrogate=surrogate_class(name)())
    trainer.train()
    assert logs(trainer) == [0] * 4 == logs(trainer, "cross_entropy")
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_windows_whose_answer_was_cut_off_are_not_learned_from(make, features):
    rows = cut_off(features, CUT["behind the window"])
    found = collect_predictions(make(make_model(), rows), rows)
    assert len(found) == 12
    assert all(row["answers"]["text"] for row in found.references)


def test_joined_data_sets_with_unequally_many_answers_train(make, tokenizer, features):
    several = prepare_features(make_examples(64, seed=1, golds=3), tokenizer, 64, 16)
    joined = datasets.concatenate_datasets([features, several])
    trainer = make(make_model(), joined)
    trainer.train()
    assert trainer.surrogate_in_force
    found = collect_predictions(trainer, joined.select(range(60, 68)))
    assert found.features["gold_spans"].shape[1:] == (3, 2)
    assert [len(row["answers"]["text"]) for row in found.references[:4]] == [1] * 4


def byte_level(padding_side="right"):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    one = "<|endoftext|>"
    learn = trainers.BpeTrainer(
        vocab_size=290, special_tokens=[one], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator(["which city is it", "go to the and Rome"], learn)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=one, eos_token=one, pad_token=one, unk_token=one, padding_side=padding_side
    )


CITIES = ("北京", "Évry", "Rome", "😀 city", "A中")


@pytest.mark.parametrize("padding_side", ["right", "left"])
def test_a_tokenizer_without_special_tokens_finds_context_null_and_answers(make, padding_side):
    tokenizer = byte_level(padding_side)
    rows = [
        {
            "id": str(number),
            "question": "which city ?",
            "context": f"go to {CITIES[number % 5]} and the" + " go" * (number % 3),
            "answers": {"text": [CITIES[number % 5]], "answer_start": [6]},
        }
        for number in range(30)
    ]
    train = prepare_features(datasets.Dataset.from_list(rows), tokenizer, 40, 8)
    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0)
    trainer = make(
        GPT2ForQuestionAnswering(config), train, processing_class=tokenizer, surrogate=SharpenedF1Surrogate()
    )
    found = collect_predictions(trainer, train)
    assert [row["answers"]["text"] for row in found.references] == [row["answers"]["text"] for row in rows]
    for place, feature in enumerate(train):
        inside = [pair is not None for pair in feature["offset_mapping"]]
        assert found.features["context_mask"][place].tolist()[: len(inside)] == inside
        assert found.features["null_mask"][place].nonzero().tolist() == [[feature["null_position"]]]
        assert not inside[feature["null_position"]] and feature["attention_mask"][feature["null_position"]]
    trainer.train()
    assert trainer.surrogate_in_force and all(0 < loss < 4 for loss in logs(trainer))


class TextProcessor(ProcessorMixin):
    attributes = ("tokenizer",)
    tokenizer_class = "AutoTokenizer"

    def __init__(self, tokenizer=None, **keywords):
        super().__init__(tokenizer)


@pytest.mark.parametrize("loss", [SharpenedF1Surrogate, SpanCrossEntropy])
def test_a_document_model_that_scores_the_page_too_is_trained_with_its_processor(make, tokenizer, loss):
    config = LayoutLMv3Config(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, max_2d_position_embeddings=16, coordinate_size=2, shape_size=4, input_size=32,
        patch_size=16, has_relative_attention_bias=False, has_spatial_attention_bias=False,
    )  # fmt: skip
    ids = [2, 5, 6, 3, 7, 8, 9, 3]
    row = {"input_ids": ids, "attention_mask": [1] * 8, "bbox": [[1] * 4] * 8, "pixel_values": torch.randn(3, 32, 32)}
    rows = [row | {"start_positions": 4 + number % 3, "end_positions": 6} for number in range(32)]
    processor = TextProcessor(tokenizer=tokenizer)
    trainer = make(
        LayoutLMv3ForQuestionAnswering(config), rows, surrogate=loss(), processing_class=processor,
        data_collator=default_data_collator,
    )  # fmt: skip
    trainer.train()
    assert trainer.surrogate_in_force
    found = collect_predictions(trainer, rows[:3])
    assert [row["answers"]["text"] for row in found.references] == [
        [tokenizer.decode(ids[start:7])] for start in (4, 5, 6)
    ]


def test_what_has_no_tokenizer_is_refused_at_construction(make):
    with pytest.raises(ValueError, match="processing_class=WhisperFeatureExtractor cannot .*: pass the tokenizer"):
        make(make_model(), processing_class=WhisperFeatureExtractor(feature_size=8))


def test_a_model_that_scores_fewer_positions_than_tokens_is_refused_before_the_first_step(make, monkeypatch):
    class Short(Pointers):
        def forward(self, input_ids, start_positions=None, end_positions=None):
            return super().forward(input_ids[:, 1:], start_positions, end_positions)

    monkeypatch.setattr(Trainer, "training_step", lambda *_, **__: pytest.fail("a step was made"))
    with pytest.raises(ValueError, match="start_logits of shape .* for input_ids of shape"):
        make(Short()).train()


def of_rows(**changes):
    row = {"id": "a", "question": "which ?", "context": "red", "answers": {"text": ["red"], "answer_start": [0]}}
    return datasets.Dataset.from_list([row | changes] * 2)


WRONG = {
    "a stream": (lambda: of_rows().to_iterable_dataset(), "examples is a IterableDataset: pass one datasets.Dataset"),
    "rows": (lambda: list(of_rows()), "examples is a list: pass one datasets.Dataset"),
    "splits": (lambda: datasets.DatasetDict(train=of_rows()), "examples is a DatasetDict: pass one datasets.Dataset"),
    "answers one by one": (
        lambda: of_rows(answers=[{"text": "red", "answer_start": 0}]),
        "column 'answers' .*row 0: it has to be a dict of the lists",
    ),
    "one answer": (lambda: of_rows(answers={"text": "red", "answer_start": 0}), "column 'answers' .*'text': 'red'"),
    "no question": (lambda: of_rows(question=None), "column 'question' of examples holds None in row 0: .* text"),
    "a number": (lambda: of_rows(context=3), "column 'context' of examples holds 3 in row 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_examples_of_another_form_are_named(tokenizer, name):
    build, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        prepare_features(build(), tokenizer)
