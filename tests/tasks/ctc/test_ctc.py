"""Models of speech learn the costs of their errors from the word error rate, and train on them."""

import json
import random
import re

import pytest
import torch
import transformers
from forced import Forced
from toy_speech import LETTERS, VOCABULARY, make_model, make_processor, make_rows, make_trainer, warm_model
from transformers import Trainer, Wav2Vec2FeatureExtractor

from reloss_hf import (
    CtcCosts,
    CtcLoss,
    CtcNgramLoss,
    DataCollatorCTCWithPadding,
    ExpectedWerLoss,
    GroupMetric,
    Predictions,
    ReLossMixin,
    ReLossTrainer,
    SurrogateLoss,
    collect_predictions,
    surrogate_loss_func,
)
from reloss_hf.cli import main
from reloss_hf.tasks import task_for
from reloss_hf.tasks.models import class_names

SHORT = {"max_steps": 4, "surrogate_held_out_share": 0.5, "surrogate_learn_again": 0, "surrogate_group_size": 8}


@pytest.fixture(scope="module")
def small():
    return make_rows(60)


class Learning(Forced):
    sets, candidates, steps = 6, 12, 50


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    arguments = {"max_steps": 6, "logging_steps": 2, "surrogate_group_size": 8, "surrogate_learn_again": 1}
    arguments |= {"save_predictions": True}
    folder, held_out = tmp_path_factory.mktemp("out"), make_rows(60, seed=3)
    trainer = make_trainer(
        folder, make_rows(100), cls=Learning, arguments=arguments, metric="wer", surrogate_dataset=held_out
    )
    trainer.train()
    return trainer


def weights_of(trainer):
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])


def test_the_class_of_the_model_tells_the_task_also_where_the_model_generates():
    assert task_for(make_model()).name == "ctc"
    for name in class_names("MODEL_FOR_CTC_MAPPING_NAMES"):
        cls = getattr(transformers, name)
        assert task_for(cls.__new__(cls)).name == "ctc", name


def test_costs_of_errors_are_learned_and_take_over(learned):
    report = learned.surrogate_report
    assert report.same_examples and report.metric == "wer"
    assert report.spearman > 0.5
    in_force = [e["surrogate_in_force"] for e in learned.state.log_history if "surrogate_in_force" in e]
    assert in_force and isinstance(learned.surrogate, CtcCosts)
    assert not torch.equal(learned.surrogate.costs, torch.ones(4))
    assert any("ctc" in entry for entry in learned.state.log_history)


def test_predictions_are_texts_as_the_processor_decodes_them(learned, small):
    found = collect_predictions(learned, small)
    processor, rows = learned.processing_class, small[:]
    batch = learned.data_collator([small[row] for row in range(len(small))])
    with torch.no_grad():
        logits = learned.model.eval()(batch["input_values"], attention_mask=batch["attention_mask"]).logits
    frames = learned.model._get_feat_extract_output_lengths(batch["attention_mask"].sum(1))
    theirs = [processor.decode(one[:end].argmax(-1)) for one, end in zip(logits, frames, strict=True)]
    assert sorted(found.predictions) == sorted(theirs)
    assert sorted(found.references) == sorted(processor.batch_decode(rows["labels"], group_tokens=False))
    assert any(" " in text for text in theirs)


def test_saved_predictions_are_diagnosed_and_learned_from(learned, tmp_path, capsys):
    folder = learned.args.output_dir + "/predictions"
    saved = Predictions.load(folder)
    assert saved.names[0] == "" and {*LETTERS, " "} <= set(saved.names)
    quiet = ["--metric", "wer", "--group-size", "2", "--quiet"]
    assert main(["diagnose", folder, *quiet, "--resamples", "20", "--output", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr().out
    assert all(loss in printed for loss in ("CTC", "CtcNgramLoss"))
    assert main(["learn", folder, *quiet, "--output", str(tmp_path / "surrogate")]) == 0
    assert isinstance(SurrogateLoss.from_pretrained(tmp_path / "surrogate"), CtcCosts)
    assert "CtcCosts" in (tmp_path / "surrogate" / "README.md").read_text()


def test_a_learned_surrogate_is_saved_and_trains_another_model(learned, small, tmp_path):
    learned.save_model(str(tmp_path / "saved"))
    again = make_trainer(
        tmp_path, small, make_model(), arguments={"surrogate_start": 0, "max_steps": 1},
        surrogate=tmp_path / "saved" / "surrogate",
    )  # fmt: skip
    again.train()
    assert again.surrogate_in_force and torch.equal(again.surrogate.costs, learned.surrogate.costs)


def test_a_metric_of_ones_own_is_given_texts(small, tmp_path):
    seen = []

    def share_of_right_ends(predictions, references):
        seen.append((predictions, references))
        return sum(p[-1:] == r[-1:] for p, r in zip(predictions, references, strict=True)) / len(references)

    trainer = make_trainer(tmp_path, small, cls=Forced, arguments=SHORT, metric=share_of_right_ends)
    trainer.train()
    assert trainer.surrogate_in_force
    assert all(isinstance(text, str) for text in seen[-1][0]) and len(seen[-1][0]) == len(seen[-1][1])


def one_run(folder, rows, size, accumulation, model=None, **keywords):
    arguments = {
        "max_steps": 2,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": accumulation,
        "optim": "sgd",
        "learning_rate": 0.1,
        "max_grad_norm": 0.0,
    } | keywords.pop("arguments")
    trainer = make_trainer(folder, rows, model, arguments=arguments, **keywords)
    trainer.train()
    return weights_of(trainer)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_ctc_is_a_mean_over_the_batch_however_the_model_reduces_its_own_loss(small, tmp_path, reduction):
    runs = [
        one_run(tmp_path, small, *split, warm_model(ctc_loss_reduction=reduction), arguments={"surrogate_start": None})
        for split in ((8, 1), (1, 8))
    ]
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-5)
    other = one_run(tmp_path, small, 8, 1, warm_model(), arguments={"surrogate_start": None})
    torch.testing.assert_close(runs[0], other)


@pytest.mark.parametrize("loss", [CtcLoss, CtcCosts, CtcNgramLoss])
def test_eight_micro_batches_have_the_step_of_one(small, tmp_path, loss):
    runs = [
        one_run(tmp_path, small, *split, arguments={"surrogate_start": 0}, surrogate=loss())
        for split in ((8, 1), (1, 8), (4, 2))
    ]
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(runs[0], runs[2], rtol=1e-4, atol=1e-5)


def test_expected_word_errors_are_trained_on(small, tmp_path):
    arguments = {"surrogate_start": 0, "max_steps": 2, "surrogate_cross_entropy_share": 0.1}
    trainer = make_trainer(tmp_path, small, arguments=arguments, surrogate=ExpectedWerLoss())
    trainer.train()
    batch = trainer.data_collator([small[row] for row in range(8)])
    features = trainer.task.features(trainer.model, trainer.model(**batch), batch, ExpectedWerLoss.reads)
    assert features["sample_mask"].any(1).all() and features["sample_labels"].max() < len(VOCABULARY)
    best = collect_predictions(trainer, small.select(range(8)))
    errors = GroupMetric("wer")
    counted = sum(len(text.split()) for text in best.references) * -errors(
        best.predictions, best.references, [range(8)]
    )
    trainer.model.eval()
    features = trainer.task.features(trainer.model, trainer.model(**batch), batch, ExpectedWerLoss.reads)
    assert features["sample_errors"][:, 0].sum() == pytest.approx(counted[0])


def test_the_loss_before_the_switch_is_that_of_the_model_up_to_its_reduction(small, tmp_path):
    trainer = make_trainer(tmp_path, small, arguments={"surrogate_start": None})
    batch, model = trainer.data_collator([small[row] for row in range(8)]), trainer.model.eval()
    outputs = model(**batch)
    characters = (batch["labels"] >= 0).sum()
    torch.testing.assert_close(trainer.compute_loss(model, batch), outputs.loss / characters, rtol=1e-4, atol=1e-5)
    assert trainer.evaluate(small.select(range(8)))["eval_loss"] == pytest.approx(
        (outputs.loss / characters).item(), 1e-3
    )


def test_a_resumed_run_ends_as_one_that_was_not_stopped(small, tmp_path):
    def run():
        arguments = SHORT | {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}
        return make_trainer(tmp_path / "run", small, cls=Forced, arguments=arguments, metric="wer")

    whole, resumed = run(), run()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=1e-5, atol=1e-6)
    assert torch.equal(resumed.surrogate.costs, whole.surrogate.costs)


@pytest.mark.parametrize(
    "arguments", [{"bf16": True}, {"gradient_checkpointing": True, "eval_strategy": "epoch"}]
)  # fmt: skip
def test_settings_of_the_trainer_go_through_the_switch(small, tmp_path, arguments):
    model = warm_model(apply_spec_augment=True, mask_time_prob=0.2, mask_time_length=2)
    trainer = make_trainer(tmp_path, small, model, Forced, SHORT | arguments, metric="cer", eval_dataset=small)
    trainer.train()
    assert trainer.surrogate_in_force and trainer.state.log_history[-1]["train_loss"] < 100


def squeezed(rows):
    """Rows of which some have a longer text than frames."""
    return rows.map(
        lambda row, number: row | {"labels": row["labels"] * (9 if number % 8 == 3 else 1)}, with_indices=True
    )


def test_a_text_without_enough_frames_is_named_once_and_left_out(small, tmp_path, caplog):
    trainer = make_trainer(tmp_path, squeezed(small), cls=Forced, arguments=SHORT, metric="wer")
    trainer.train()
    named = [one for one in caplog.messages if "the loss leaves such examples out" in one]
    assert len(named) == 1 and re.match(r"a text needs \d+ frames, and its speech has \d+", named[0])
    assert trainer.surrogate_in_force and weights_of(trainer).isfinite().all()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert all(0 < loss < 20 for loss in losses)


def test_texts_may_be_empty(small, tmp_path):
    rows = small.map(lambda row, number: row | {"labels": row["labels"] * (number > 1)}, with_indices=True)
    trainer = make_trainer(tmp_path, rows, cls=Forced, arguments=SHORT, metric="wer")
    trainer.train()
    assert trainer.surrogate_in_force and weights_of(trainer).isfinite().all()


@pytest.mark.parametrize("part", ["tokenizer", "feature_extractor"])
def test_half_a_processor_makes_no_batches(small, tmp_path, part):
    half_of_it = getattr(make_processor(tmp_path), part)
    with pytest.raises(ValueError, match="pads speech or texts, and not both: pass the processor that has it"):
        make_trainer(tmp_path, small, arguments=SHORT, metric="wer", processing_class=half_of_it)


def test_the_collator_of_a_processor_pads_speech_and_texts(small, tmp_path):
    trainer = make_trainer(tmp_path, small, arguments={"surrogate_start": None})
    assert isinstance(trainer.data_collator, DataCollatorCTCWithPadding)
    batch = trainer.data_collator([small[0], small[1]])
    lengths = [len(small[row]["input_values"]) for row in range(2)]
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert [row[row != -100].tolist() for row in batch["labels"]] == [small[row]["labels"] for row in range(2)]


def test_a_loss_as_compute_loss_func_reads_outputs_and_labels_alone(small, tmp_path):
    trainer = make_trainer(tmp_path, small, arguments={"surrogate_start": None})
    with pytest.raises(ValueError, match="CtcCosts"):
        surrogate_loss_func(CtcCosts(), trainer.model)


def half(rows):
    draw = random.Random(0)
    return [row | {"labels": [draw.choice((7, 30)) for _ in row["labels"]]} for row in rows]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"metric": "wer", "processing_class": Wav2Vec2FeatureExtractor()},
         "processing_class=Wav2Vec2FeatureExtractor cannot decode predictions: pass the tokenizer"),
        ({"surrogate": ExpectedWerLoss(), "start": 0, "processing_class": Wav2Vec2FeatureExtractor()},
         "processing_class=Wav2Vec2FeatureExtractor cannot decode predictions"),
        ({"metric": lambda predictions, references: 0.5}, "does not depend on the predictions"),
        ({"metric": "wer", "train": half}, "the model has 8 classes, but the labels go up to 30 and the blank is 7"),
        ({"metric": "wer", "metric_options": {"case": 1}}, "'wer' has no option 'case'"),
        ({"surrogate": "CtcCosts", "start": 0}, "is the name of a class"),
        ({"metric": "wer", "arguments": {"surrogate_class": "CtcNgramLoss"}}, "'CtcNgramLoss' cannot be learned"),
        ({"metric": "wer", "arguments": {"label_smoothing_factor": 0.1}},
         "label_smoothing_factor=0.1 has no effect on the CTC loss: leave it at 0"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_at_construction(small, tmp_path, keywords, message):
    keywords = dict(keywords)
    arguments = SHORT | {"surrogate_start": keywords.pop("start", 0.5)} | keywords.pop("arguments", {})
    train = keywords.pop("train", lambda rows: rows)(small)
    if not isinstance(keywords.get("processing_class"), Wav2Vec2FeatureExtractor):
        collator = None
    else:
        collator = DataCollatorCTCWithPadding(make_processor(tmp_path))
    with pytest.raises((ValueError, RuntimeError), match=message):
        make_trainer(tmp_path, train, arguments=arguments, data_collator=collator, **keywords)


class Own(Trainer):
    def compute_loss(self, *positional, **keywords):
        raise NotImplementedError


class OwnReLoss(ReLossMixin, Own):
    pass


def test_a_compute_loss_that_is_never_called_is_named_at_construction(small, tmp_path, caplog):
    trainer = make_trainer(tmp_path, small, make_model(), OwnReLoss, {"surrogate_start": None, "max_steps": 1})
    assert "Own.compute_loss is never called, because the loss before the switch is always CTC" in caplog.text
    trainer.train()


class Poor(ReLossTrainer):
    """Learns a loss that orders predictions the wrong way round."""

    def _learn(self, *evidence):
        surrogate, report, _ = super()._learn(*evidence)
        report.spearman = report.spearman_within = -1.0
        return surrogate, report, report.objection


def test_training_without_a_useful_loss_stays_on_ctc_by_name(small, tmp_path, caplog):
    trainer = make_trainer(tmp_path, small, cls=Poor, arguments=SHORT, metric="wer")
    trainer.train()
    assert trainer.surrogate is None and "Training stays on CTC" in caplog.text
    assert "cross-entropy" not in caplog.text + trainer.surrogate_report.objection


def test_a_tokenizer_whose_tokens_are_no_text_is_refused(small, tmp_path):
    processor = make_processor(tmp_path)
    decode = processor.tokenizer.batch_decode
    processor.tokenizer.batch_decode = lambda rows, **settings: [text.upper() for text in decode(rows, **settings)]
    with pytest.raises(ValueError, match="decodes labels as '[A-E ]+', but its tokens are '[a-e ]+'"):
        make_trainer(tmp_path, small, arguments=SHORT, metric="wer", processing_class=processor)


def test_the_vocabulary_file_is_saved_with_the_processor(learned, tmp_path):
    learned.save_model(str(tmp_path / "saved"))
    assert json.loads((tmp_path / "saved" / "vocab.json").read_text())["[PAD]"] == VOCABULARY["[PAD]"]
