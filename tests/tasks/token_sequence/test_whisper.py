"""Whisper learns a loss of its word error rate, and trains on its own output behind its prompt."""

import jiwer
import pytest
import torch
from toy_training import learning_less
from toy_whisper import END, PROMPT, VOCABULARY, collate, make_model, make_processor, make_rows, make_trainer
from transformers import GenerationMixin

from reloss_hf import (
    MinimumRiskLoss,
    MinimumWerLoss,
    NgramSurrogate,
    OwnOutputSurrogate,
    SurrogateLoss,
    collect_predictions,
)

GENERATED = {"surrogate_predictions": "generate", "surrogate_class": "OwnOutputSurrogate", "surrogate_snapshots": 2}
SMALL = {"surrogate_group_size": 2}


@pytest.fixture(scope="module")
def rows():
    return make_rows(160)


def weights_of(trainer):
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])


def test_word_error_rate_is_learned_by_name_and_takes_over(rows, tmp_path):
    arguments = SMALL | {"surrogate_snapshots": 4, "surrogate_snapshot_size": 120}
    trainer = make_trainer(tmp_path, rows, arguments=arguments, metric="wer", metric_options={"normalize": "whisper"})
    learning_less(trainer, groups=100, steps=25).train()
    report = trainer.surrogate_report
    assert report.metric == "wer" and trainer.learner.metric.lower_is_better
    texts = trainer.predictions.references
    assert texts and not any("<|" in text for text in [*texts, *trainer.predictions.predictions])
    assert trainer.surrogate is None or trainer.surrogate_in_force


def test_the_own_output_follows_the_prompt_that_the_model_cannot_generate(rows, tmp_path):
    trainer = make_trainer(tmp_path, rows, arguments={"surrogate_start": 0}, surrogate=OwnOutputSurrogate())
    batch, model = collate(rows[:4]), trainer.model.eval()
    heard = trainer.task.generate(model, batch, model(**trainer.task.without_labels(batch)))
    assert heard[:, :4].tolist() == [[VOCABULARY["<|startoftranscript|>"], *PROMPT]] * 4
    bare = torch.full((4, 1), VOCABULARY["<|startoftranscript|>"])
    given = torch.cat([bare, torch.tensor(PROMPT).expand(4, -1)], dim=1)
    expected = GenerationMixin.generate(
        model, batch["input_features"], decoder_input_ids=given, max_new_tokens=heard.shape[1] - 4, num_beams=1
    )
    assert heard.equal(expected)


def test_nothing_in_the_prompt_counts_as_a_match(rows, tmp_path):
    trainer = make_trainer(tmp_path, rows, arguments={"surrogate_start": 0}, surrogate=OwnOutputSurrogate())
    batch, model = collate(rows[:4]), trainer.model.eval()
    outputs = model(**trainer.task.without_labels(batch))
    features = trainer.task.features(model, outputs, batch, OwnOutputSurrogate.reads)
    assert not features["text_mask"][:, :3].any() and not features["prefix_mask"][:, :3].any()
    assert features["text_mask"][:, 3].all() and features["target_mask"][:, :3].all()


@pytest.mark.parametrize("loss", [OwnOutputSurrogate, MinimumWerLoss])
@pytest.mark.parametrize("length", [36, 40])
def test_an_output_is_never_longer_than_the_decoder_has_positions(rows, tmp_path, loss, length):
    model = make_model()
    assert model.config.max_target_positions == 40
    model.generation_config.suppress_tokens += [VOCABULARY[END]]  # it never ends by itself
    long = [row | {"labels": [*row["labels"][:4], *[0] * (length - 4), VOCABULARY[END]]} for row in rows[:16]]
    trainer = make_trainer(tmp_path, long, model, {"surrogate_start": 0, "max_steps": 1}, surrogate=loss())
    trainer.train()
    assert trainer.surrogate_in_force


@pytest.mark.parametrize("loss", [OwnOutputSurrogate, MinimumRiskLoss, MinimumWerLoss])
def test_spec_augment_and_gradient_checkpointing_are_left_alone(rows, tmp_path, loss):
    model = make_model(apply_spec_augment=True, mask_time_prob=0.3, mask_time_length=2)
    arguments = {"gradient_checkpointing": True, "max_steps": 3, "surrogate_start": 2}
    trainer = make_trainer(tmp_path, rows, model, arguments, surrogate=loss())
    trainer.train()
    assert trainer.surrogate_in_force and model.config.apply_spec_augment
    assert model.generation_config.forced_decoder_ids[0] == [1, PROMPT[0]]


def test_word_errors_of_sampled_texts_are_counted(rows, tmp_path):
    trainer = make_trainer(tmp_path, rows, arguments={"surrogate_start": 0}, surrogate=MinimumWerLoss())
    batch, model = collate(rows[:4]), trainer.model.eval()
    torch.manual_seed(0)
    drawn = trainer.task.generate(model, batch, model(**trainer.task.without_labels(batch)), 7)
    texts, said = trainer.task._decoder.texts(drawn), trainer.task._decoder.texts(batch["labels"])
    expected = [
        jiwer.wer(said[number // 7], text) * len(said[number // 7].split()) for number, text in enumerate(texts)
    ]
    torch.manual_seed(0)
    features = trainer.task.features(model, model(**trainer.task.without_labels(batch)), batch, MinimumWerLoss.reads)
    assert features["sample_errors"].flatten().tolist() == pytest.approx(expected)
    probs = features["sample_log_probs"].masked_fill(~features["sample_mask"], -torch.inf).softmax(1)
    losses = (probs * features["sample_errors"]).sum(1) / (batch["labels"] >= 0).sum(1)
    torch.testing.assert_close(MinimumWerLoss()(features), losses)


def test_predict_with_generate_and_the_own_output_are_learned_from_together(rows, tmp_path):
    arguments = GENERATED | SMALL | {"predict_with_generate": True, "max_steps": 6, "eval_strategy": "epoch"}
    trainer = make_trainer(
        tmp_path, rows, arguments=arguments, metric="cer", surrogate_dataset=rows[:60], eval_dataset=rows[:8]
    )
    learning_less(trainer, groups=100, steps=25).train()
    assert trainer.surrogate_report.metric == "cer"
    assert set(trainer.predictions.references) <= {
        trainer.task._decoder.texts(collate([row])["labels"])[0] for row in rows[:60]
    }


@pytest.mark.parametrize("loss", [NgramSurrogate, OwnOutputSurrogate])
def test_eight_micro_batches_have_the_step_of_one(rows, tmp_path, loss):
    if loss is OwnOutputSurrogate:  # the longest text of a micro-batch tells how long an output may be
        longest = max(len(row["labels"]) for row in rows)
        rows = [row for row in rows if len(row["labels"]) == longest]

    def run(size, accumulation):
        arguments = {
            "max_steps": 3,
            "surrogate_start": 2,
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": accumulation,
            "optim": "sgd",
        }
        trainer = make_trainer(tmp_path, rows, arguments=arguments, surrogate=loss())
        trainer.train()
        return weights_of(trainer)

    torch.testing.assert_close(run(8, 1), run(1, 8), rtol=1e-4, atol=1e-6)


def test_a_resumed_run_ends_as_one_that_was_not_stopped(rows, tmp_path):
    def run():
        arguments = {"save_strategy": "steps", "save_steps": 4, "max_steps": 8, "surrogate_start": 2}
        return make_trainer(tmp_path / "run", rows, arguments=arguments, surrogate=OwnOutputSurrogate())

    whole, resumed = run(), run()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=1e-5, atol=1e-6)
    saved = SurrogateLoss.from_pretrained(tmp_path / "run" / "checkpoint-8" / "surrogate")
    assert isinstance(saved, OwnOutputSurrogate)


def test_the_processor_is_saved_and_decodes(rows, tmp_path):
    trainer = make_trainer(tmp_path, rows, arguments={"surrogate_start": None})
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "tokenizer_config.json").exists()
    found = collect_predictions(trainer, rows[:4])
    assert found.references == make_processor().batch_decode(
        [row["labels"] for row in rows[:4]], skip_special_tokens=True
    )


def test_a_feature_extractor_alone_is_refused(rows, tmp_path):
    extractor = make_processor().feature_extractor
    with pytest.raises(
        ValueError, match="processing_class=WhisperFeatureExtractor cannot decode .*: pass the tokenizer"
    ):
        make_trainer(tmp_path, rows, arguments=SMALL, metric="wer", processing_class=extractor)
