import logging
import random

import pytest
import torch
from toy_training import LastTokensSurrogate, final_weights, history
from toy_translation import SacrebleuModule
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer

from reloss_hf import (
    NgramSurrogate,
    Predictions,
    ReLossCallback,
    ReLossSeq2SeqTrainer,
    ReLossTrainer,
    SurrogateLoss,
    TokenErrorProbability,
    collect_predictions,
)


def test_the_readmes_call_learns_a_surrogate_on_the_way_and_trains_with_it(build, tmp_path):
    trainer = build(predict_with_generate=True)
    trainer.train()
    assert trainer.surrogate_report.objection is None
    assert history(trainer, "surrogate_in_force") == {5: 0, 10: 0, 15: 0, 20: 0, 25: 1, 30: 1}
    assert set(history(trainer, "surrogate_loss")) == {25, 30}
    assert set(history(trainer, "cross_entropy")) == {5, 10, 15, 20, 25, 30}
    spearman = history(trainer, "surrogate_spearman")
    assert spearman == {20: trainer.surrogate_report.spearman}
    within = [history(trainer, f"{loss}_spearman_within")[20] for loss in ("cross_entropy", "surrogate")]
    assert within[0] < within[1]
    trainer.surrogate.save_pretrained(tmp_path / "surrogate")
    assert isinstance(SurrogateLoss.from_pretrained(tmp_path / "surrogate"), LastTokensSurrogate)


@pytest.mark.parametrize(("start", "first"), [(20, 20), (0.5, 15), (0.9, 27)])
def test_the_loss_is_replaced_at_the_right_step(build, start, first):
    seen = []

    class Watch(ReLossSeq2SeqTrainer):
        def compute_loss(self, *arguments, **keywords):
            seen.append(self.surrogate_in_force)
            return super().compute_loss(*arguments, **keywords)

    build(Watch, surrogate_start=start).train()
    assert seen == [False] * first + [True] * (30 - first)


def gradients(trainer, inputs, loss):
    trainer.model.zero_grad()
    loss(trainer.model, inputs).backward()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


def test_after_the_switch_gradients_come_from_the_surrogate_alone(build, collator):
    surrogate = TokenErrorProbability()
    trainer = build(surrogate_start=0, trainer={"surrogate": surrogate, "metric": None})
    inputs = collator([trainer.train_dataset[i] for i in range(8)])

    def by_hand(model, inputs):
        p = model(**inputs).logits.softmax(-1).gather(2, inputs["labels"].clamp(min=0).unsqueeze(2)).squeeze(2)
        mask = inputs["labels"] != -100
        return (1 - p)[mask].mean()

    torch.testing.assert_close(
        gradients(trainer, inputs, trainer.compute_loss), gradients(trainer, inputs, by_hand), atol=1e-6, rtol=1e-4
    )


def test_a_share_of_cross_entropy_stays_if_asked_for(build, collator):
    trainer = build(
        surrogate_start=0, surrogate_cross_entropy_share=0.25, label_smoothing_factor=0.1,
        trainer={"surrogate": TokenErrorProbability(), "metric": None},
    )  # fmt: skip
    trainer.model.eval()
    inputs = dict(collator([trainer.train_dataset[i] for i in range(8)]))
    inputs["decoder_input_ids"] = trainer.model.prepare_decoder_input_ids_from_labels(labels=inputs["labels"])
    smoothed = Trainer.compute_loss(trainer, trainer.model, dict(inputs))
    trainer.args.surrogate_cross_entropy_share = 0.0
    surrogate = trainer.compute_loss(trainer.model, inputs)
    trainer.args.surrogate_cross_entropy_share = 0.25
    blended = trainer.compute_loss(trainer.model, inputs)
    torch.testing.assert_close(blended, 0.75 * surrogate + 0.25 * smoothed)


def test_until_the_switch_it_trains_as_the_plain_trainer_does(
    build, toy_model, toy_data, tokenizer, collator, tmp_path
):
    for smoothing in (0.0, 0.1):
        collator.model = toy_model() if smoothing else None
        ours = final_weights(
            build(model=toy_model(), max_steps=12, surrogate_start=None, label_smoothing_factor=smoothing)
        )
        collecting = final_weights(
            build(model=toy_model(), max_steps=12, surrogate_start=11, surrogate_snapshots=11,
                  label_smoothing_factor=smoothing, surrogate_snapshot_size=16,
                  trainer={"callbacks": [NeverLearn()]})
        )  # fmt: skip
        plain = Seq2SeqTrainer(
            model=toy_model(),
            args=Seq2SeqTrainingArguments(
                str(tmp_path / "plain"), max_steps=12, per_device_train_batch_size=32, learning_rate=3e-3,
                label_smoothing_factor=smoothing, report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no",
            ),
            train_dataset=toy_data(640),
            processing_class=tokenizer,
            data_collator=collator,
        )  # fmt: skip
        expected = final_weights(plain)
        assert ours.equal(expected)
        assert collecting.equal(expected)


class NeverLearn(ReLossCallback):
    def should_switch(self, args, state):
        return False


def count_forward_passes(trainer):
    calls = []
    trainer.model.register_forward_hook(lambda *_: calls.append(1))
    trainer.train()
    return len(calls)


def test_forced_predictions_cost_no_forward_pass(build):
    trainer = build()
    assert count_forward_passes(trainer) == 30 + 2  # of the rehearsal
    assert len(trainer.predictions) == 4 * 128 * 2  # as many corruptions as predictions


def test_predictions_are_collected_over_the_whole_warm_up(build):
    trainer = build()
    trainer.train()
    counts = {c: int((trainer.predictions.candidates == c).sum()) for c in range(-4, 4)}
    assert counts == dict.fromkeys(range(-4, 4), 128)


def test_predictions_of_a_data_set_are_collected_as_training_does_without_dropout(build, toy_data, collator, tmp_path):
    trainer = build(per_device_eval_batch_size=7)
    test = toy_data(20, seed=3)
    collect_predictions(trainer, test, candidate=4).save(tmp_path / "test")
    saved = Predictions.load(tmp_path / "test")
    batch = collator([test[i] for i in range(20)])
    with torch.no_grad():
        logits = trainer.model(**batch).logits
    mask = batch["labels"] != -100
    expected = logits.log_softmax(-1).gather(2, batch["labels"].clamp(min=0).unsqueeze(2)).squeeze(2)[mask]
    torch.testing.assert_close(saved.features["target_log_probs"][saved.features["target_mask"]], expected)
    assert saved.candidates.tolist() == [4] * 20
    assert trainer.model.training


def test_generated_predictions_are_of_the_held_out_slice(build, toy_data, tokenizer):
    held_out = toy_data(60, seed=5)
    trainer = build(surrogate_predictions="generate", trainer={"surrogate_dataset": held_out})
    trainer.train()
    references = set(tokenizer.batch_decode(list(held_out["labels"]), skip_special_tokens=True))
    assert set(trainer.predictions.references) == references
    assert trainer.predictions.candidates.bincount().tolist() == [60] * 4


def test_a_surrogate_of_the_models_own_output_is_given_the_same_as_a_loss(build):
    trainer = build(
        surrogate_predictions="generate", surrogate_class="PrefixNgramSurrogate", surrogate_start=26,
        surrogate_snapshots=2,
        trainer={"metric": "sacrebleu"},
    )  # fmt: skip
    trainer.train()
    assert {"prefix_log_probs", "target_classes"} <= set(trainer.predictions.features)
    trainer.surrogate = trainer.learner.surrogate
    loss = trainer.compute_loss(trainer.model, trainer.data_collator([trainer.train_dataset[i] for i in range(4)]))
    loss.backward()
    assert loss.isfinite()
    assert trainer.surrogate_in_force


def test_where_no_metric_is_named_the_n_gram_match_takes_over_as_it_is_written(build):
    trainer = build(surrogate_class=None, trainer={"metric": None, "processing_class": None})
    trainer.train()
    assert history(trainer, "surrogate_in_force") == {5: 0, 10: 0, 15: 0, 20: 0, 25: 1, 30: 1}
    assert type(trainer.surrogate) is NgramSurrogate
    written = NgramSurrogate().state_dict()
    assert all(value.equal(written[name]) for name, value in trainer.surrogate.state_dict().items())
    assert len(trainer.predictions) == 0


def test_a_given_surrogate_needs_neither_metric_nor_tokenizer(build, tmp_path):
    NgramSurrogate().save_pretrained(tmp_path / "surrogate")
    trainer = build(surrogate_start=0, max_steps=3, trainer={
        "surrogate": tmp_path / "surrogate", "metric": None, "processing_class": None
    })  # fmt: skip
    trainer.train()
    assert history(trainer, "surrogate_in_force") == {}
    assert trainer.surrogate_in_force
    assert len(trainer.predictions) == 0


def test_a_shuffled_metric_is_refused_and_training_stays_on_cross_entropy(build, caplog):
    draw = random.Random(0)
    with caplog.at_level(logging.WARNING, logger="reloss_hf.trainer"):
        trainer = build(trainer={"metric": lambda predictions, references: draw.random()})
        trainer.train()
    assert trainer.surrogate is None
    assert abs(trainer.surrogate_report.spearman) < trainer.surrogate_report.chance
    assert [r.getMessage() for r in caplog.records if "stays on cross-entropy" in r.getMessage()]
    assert set(history(trainer, "surrogate_in_force").values()) == {0}


def test_eval_loss_is_the_loss_in_force_also_where_predictions_are_generated(build, toy_model):
    surrogate = TokenErrorProbability()
    for generate in (False, True):
        trainer = build(
            surrogate_start=2, max_steps=4, eval_strategy="steps", eval_steps=1, predict_with_generate=generate,
            per_device_eval_batch_size=96, model=toy_model(), trainer={"surrogate": surrogate, "metric": None},
        )  # fmt: skip
        trainer.train()
        losses = history(trainer, "eval_loss")
        assert losses[1] > 1 > losses[2] > 0
        inputs = trainer.data_collator([trainer.eval_dataset[i] for i in range(96)])
        with torch.no_grad():
            assert trainer.compute_loss(trainer.model, inputs).item() == pytest.approx(losses[4], rel=1e-4)


def test_a_metric_that_raises_midway_is_named_with_its_inputs_and_training_goes_on(build, caplog):
    calls = []

    def picky(predictions, references):
        calls.append(1)
        if len(calls) > 20:
            raise ArithmeticError("too many references")
        return 1.0

    with caplog.at_level(logging.WARNING, logger="reloss_hf.trainer"):
        trainer = build(trainer={"metric": picky})
        trainer.train()
    assert "stays on cross-entropy: no surrogate could be learned" in caplog.text
    assert "ArithmeticError: too many references" in caplog.text
    assert "predictions=[" in caplog.text
    assert trainer.state.global_step == 30


def test_too_few_predictions_until_the_switch_are_named_and_training_goes_on(build, caplog):
    with caplog.at_level(logging.WARNING, logger="reloss_hf.trainer"):
        build(surrogate_start=2, per_device_train_batch_size=8, max_steps=3).train()
    assert "predictions of 16 different examples" in caplog.text


def test_a_callback_of_ones_own_decides_instead(build):
    class Early(ReLossCallback):
        def should_switch(self, args, state):
            return state.global_step >= 12

    trainer = build(trainer={"callbacks": [Early()]})
    trainer.train()
    assert set(history(trainer, "surrogate_spearman")) == {12}
    assert len([c for c in trainer.callback_handler.callbacks if isinstance(c, ReLossCallback)]) == 1


def test_nan_logits_are_skipped_and_counted(build, caplog):
    trainer = build()
    original = trainer.task.forced_predictions

    def poisoned(*arguments):
        predictions = original(*arguments)
        predictions.features["target_log_probs"][::16] = float("nan")
        return predictions

    trainer.task.forced_predictions = poisoned
    with caplog.at_level(logging.WARNING, logger="reloss_hf.trainer"):
        trainer.train()
    assert "predictions with NaN or infinite scores were left out" in caplog.text
    assert trainer.predictions.features["target_log_probs"].isfinite().all()


def test_the_plain_trainer_works_likewise(build):
    trainer = build(ReLossTrainer, trainer={"metric": SacrebleuModule()})
    trainer.train()
    assert trainer.surrogate_report.metric == "sacrebleu_module"
