"""Readers learn from SQuAD 2.0's F1 when to abstain, and train on it."""

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector
from toy_abstention import TOKENIZER, make_features, make_trainer, warm_model
from toy_questions import SquadV2, make_examples
from toy_training import learning_less

from reloss_hf import (
    AbstentionCosts,
    AnswersSurrogate,
    GroupMetric,
    Predictions,
    ReLossTrainer,
    SurrogateLoss,
    collect_predictions,
    prepare_features,
    squad_compute_metrics,
)
from reloss_hf.cli import main
from reloss_hf.diagnosis.diagnosis import diagnose


@pytest.fixture(scope="module")
def small():
    return make_features(120, seed=3)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    arguments = {"save_predictions": True, "max_steps": 40, "surrogate_start": 2, "surrogate_learn_again": 1}
    trainer = make_trainer(tmp_path_factory.mktemp("out"), make_features(400), arguments=arguments, metric="squad_v2")
    trainer.train()
    return trainer


def weights_of(trainer):
    return parameters_to_vector(trainer.model.parameters()).detach()


def test_costs_are_learned_and_take_over(learned):
    report = learned.surrogate_report
    assert report.same_examples and report.metric == "squad_v2" and report.surrogate == "AbstentionCosts"
    in_force = [entry["surrogate_in_force"] for entry in learned.state.log_history if "surrogate_in_force" in entry]
    assert in_force == [0] * 2 + [1] * 38
    assert learned.learner.group_size == 256 and (learned.surrogate.costs.log().abs() > 0.01).all()
    held_out = [entry for entry in learned.state.log_history if "held_out_metric" in entry]
    assert held_out[-1]["held_out_metric"] > held_out[-1]["held_out_metric_at_switch"]


def test_evaluation_tells_of_both_kinds_of_questions(learned):
    examples = make_examples(80, seed=5, unanswerable=0.4)
    windows = prepare_features(examples, TOKENIZER, 64, 3)
    learned.compute_metrics = squad_compute_metrics(examples, windows, "squad_v2")
    scores = learned.evaluate(windows)
    assert {"eval_f1", "eval_HasAns_f1", "eval_NoAns_f1", "eval_best_f1", "eval_best_f1_thresh"} <= set(scores)
    assert scores["eval_best_f1"] >= scores["eval_f1"] > 40


def test_the_command_line_compares_and_learns_from_saved_predictions(learned, tmp_path, capsys):
    folder = learned.args.output_dir + "/predictions"
    quiet = ["--metric", "squad_v2", "--group-size", "64", "--quiet"]
    assert main(["diagnose", folder, *quiet, "--resamples", "20", "--output", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr().out
    assert "candidates of the same" in printed and "ExpectedF1Loss" in printed
    assert main(["learn", folder, *quiet, "--output", str(tmp_path / "surrogate")]) == 0
    assert isinstance(SurrogateLoss.from_pretrained(tmp_path / "surrogate"), AbstentionCosts)
    assert "AbstentionCosts" in (tmp_path / "surrogate" / "README.md").read_text()


def test_collected_predictions_can_be_learned_from(learned, small, tmp_path):
    collect_predictions(learned, small).save(tmp_path)
    saved = Predictions.load(tmp_path)
    assert len(saved) == len(small) and {"spans", "span_texts"} <= set(saved.features)


def test_a_learned_loss_trains_another_model(learned, small, tmp_path):
    learned.surrogate.save_pretrained(tmp_path / "surrogate")
    arguments = {"surrogate_start": 0, "max_steps": 2}
    again = make_trainer(tmp_path, small, arguments=arguments, surrogate=tmp_path / "surrogate")
    again.train()
    assert again.surrogate_in_force and torch.equal(again.surrogate.costs, learned.surrogate.costs)
    assert torch.equal(again.surrogate.shift, learned.surrogate.shift)


@pytest.mark.parametrize(
    "keywords",
    [
        {"arguments": {"surrogate_start": 2}, "metric": "squad_v2"},
        {"arguments": {"surrogate_start": 2, "surrogate_cross_entropy_share": 0.5}, "metric": "squad_v2"},
    ],
)
def test_eight_micro_batches_have_the_step_of_one(small, tmp_path, keywords):
    rows, held_out, runs = [row for row in small if len(row["input_ids"]) == 14], make_features(60, seed=7), []
    for size, accumulation in ((8, 1), (1, 8), (4, 2)):
        arguments = {
            "max_steps": 3,
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": accumulation,
            "optim": "sgd",
            "learning_rate": 0.2,
        } | keywords["arguments"]
        trainer = make_trainer(
            tmp_path, rows, arguments=arguments, metric=keywords["metric"], surrogate_dataset=held_out
        )
        trainer.train()
        assert type(trainer.surrogate) is AbstentionCosts
        runs.append(weights_of(trainer))
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(runs[0], runs[2], rtol=1e-4, atol=1e-6)


def test_a_resumed_run_ends_as_one_that_was_not_stopped(small, tmp_path):
    def run():
        arguments = {"save_strategy": "steps", "save_steps": 3, "max_steps": 9, "surrogate_start": 2}
        return make_trainer(tmp_path / "run", small, arguments=arguments, metric="squad_v2")

    whole, resumed = run(), run()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-6"))
    torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=1e-5, atol=1e-6)
    assert torch.equal(resumed.surrogate.costs, whole.surrogate.costs)
    assert torch.equal(resumed.surrogate.shift, whole.surrogate.shift)


def test_the_module_of_evaluate_a_metric_of_ones_own_and_windows_of_long_contexts_are_learned(tmp_path):
    windows = make_features(60, length=14)
    assert len(windows) > 70

    def share_of_abstentions(predictions, references):
        return float(np.mean([row["prediction_text"] == "" for row in predictions]))

    own = {"surrogate_class": "AbstentionCosts", "surrogate_group_size": 32}
    for metric, arguments in ((SquadV2(), {}), (share_of_abstentions, own)):
        trainer = make_trainer(tmp_path, windows, arguments=arguments, metric=metric)
        trainer.train()
        assert type(trainer.surrogate) is AbstentionCosts and trainer.surrogate_in_force
    answering, abstaining, _ = trainer.surrogate.costs
    assert answering > abstaining  # whoever abstains always is best by the last one


def test_all_windows_of_a_question_are_held_out_or_none(tmp_path):
    windows = make_features(100, length=12)
    assert len(windows) > 160
    trainer = make_trainer(tmp_path, windows, metric="squad_v2")
    names = trainer.learning.dataset["example_id"][:]
    assert set(names).isdisjoint(trainer.train_dataset["example_id"])
    assert len(set(names)) == 30  # the share of the questions, however many windows they have
    learned, watched = (
        {names[row] for row in rows} for rows in (trainer.learning._rows, trainer.learning._watched_rows)
    )
    assert learned.isdisjoint(watched) and len(watched) == 9
    assert {True, False} == set(trainer.learning.dataset["answerable"])


@pytest.mark.parametrize("arguments", [{"bf16": True}, {"gradient_checkpointing": True}])
def test_settings_of_the_trainer_go_through_the_switch(small, tmp_path, arguments):
    trainer = make_trainer(tmp_path, small, arguments={"max_steps": 4} | arguments, metric="squad_v2")
    trainer.train()
    assert trainer.surrogate_in_force and np.isfinite(trainer.state.log_history[-1]["train_loss"])


@pytest.mark.parametrize("metric", ["squad_v2", "squad"])
def test_other_losses_are_learned_from_groups_as_before(tmp_path, metric):
    rows = make_features(200, unanswerable=0.4 if metric == "squad_v2" else 0.0, golds=2)
    own = {"surrogate_class": "AnswersSurrogate"} if metric == "squad_v2" else {}
    arguments = {"surrogate_snapshot_size": 64, "surrogate_snapshots": 2, "surrogate_group_size": 4} | own
    trainer = learning_less(make_trainer(tmp_path, rows, arguments=arguments, metric=metric))
    assert len(trainer.train_dataset) == 200  # nothing is held out
    trainer.train()
    assert type(trainer.surrogate) is AnswersSurrogate and not trainer.surrogate_report.same_examples
    assert "spans" not in trainer.predictions.features
    if metric == "squad_v2":  # what is saved of such a run can still be diagnosed
        diagnosis = diagnose(trainer.predictions, GroupMetric(metric), None, 4, 20, progress=False)
        assert diagnosis.set_size == 0 and diagnosis.group_size == 4


def test_a_model_that_cannot_abstain_does_no_harm(tmp_path):
    def without_null(model, inputs, outputs):
        for name in ("start_logits", "end_logits"):
            logits = outputs[name]
            outputs[name] = logits.index_fill(1, torch.tensor([0]), -1e4)
        return outputs

    model = warm_model()
    model.register_forward_hook(without_null)
    trainer = make_trainer(tmp_path, make_features(120), model, ReLossTrainer, metric="squad_v2")
    trainer.train()
    assert trainer.surrogate_report.held_out_metric == trainer.surrogate_report.foreseen_metric
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


@pytest.mark.parametrize("key", ["NoAns_f1", "HasAns_exact", "exact"])
def test_the_score_of_one_kind_of_question_can_be_learned(small, tmp_path, key):
    trainer = make_trainer(tmp_path, small, arguments={"max_steps": 5}, metric="squad_v2", metric_key=key)
    trainer.train()
    assert type(trainer.surrogate) is AbstentionCosts and trainer.surrogate_report.metric == f"squad_v2:{key}"


BAD = [
    (0.0, {"metric": "squad_v2"}, "36 have an answer and 0 have none, so they cannot tell when to abstain: .*'squad'"),
    (1.0, {"metric": "squad_v2"}, "0 have an answer and 36 have none, so they cannot tell when to abstain"),
    (0.4, {"metric": "squad"}, "'squad' cannot score questions without an answer"),
    (0.0, {"metric": "squad", "cls_name": "AbstentionCosts"}, "does not tell when to abstain: pass metric='squad_v2'"),
    (0.4, {"metric": "squad_v2", "cls_name": "ClassCosts"}, "'ClassCosts' is for the task 'classification', but"),
    (0.4, {"metric": "squad_v2", "metric_options": {"threshold": 1}}, "'squad_v2' has no option 'threshold'"),
    (0.4, {"metric": "squad_v2", "surrogate_dataset": "few"}, "surrogate_dataset has 8 examples, and at least 20"),
]


@pytest.mark.parametrize(("unanswerable", "keywords", "message"), BAD)
def test_bad_input_is_refused_at_construction(tmp_path, unanswerable, keywords, message):
    keywords = dict(keywords)
    arguments = {"surrogate_class": keywords.pop("cls_name", None)}
    if "surrogate_dataset" in keywords:
        keywords["surrogate_dataset"] = make_features(8)
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, make_features(120, unanswerable=unanswerable), arguments=arguments, **keywords)


def test_it_is_refused_where_it_does_not_help(small, tmp_path):
    """By a metric that no candidate changes."""
    trainer = make_trainer(
        tmp_path, small, cls=ReLossTrainer, arguments={"surrogate_class": "AbstentionCosts"}, metric=lambda p, r: 0.5
    )
    trainer.train()
    assert trainer.surrogate is None and trainer.surrogate_report.objection is not None
