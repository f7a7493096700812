"""Models of poses train on squared error, learn the miss from PCK, and train on it."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from toy_poses import (
    NAMES,
    PCK,
    SHORT,
    SIZE,
    TORSO,
    Dots,
    Forced,
    changed,
    make_rows,
    make_sapiens2,
    make_trainer,
    make_vitpose,
    weights_of,
)
from transformers import EvalPrediction

from reloss_hf import (
    CandidateLearner,
    ExpectedMiss,
    GatedSquaredError,
    HardKeypointMining,
    HeatmapCrossEntropy,
    KeypointSquaredError,
    LogExpectedMiss,
    Predictions,
    SoftArgmaxLoss,
    SurrogateLoss,
    collect_predictions,
    pose_compute_metrics,
)
from reloss_hf.cli import main
from reloss_hf.tasks import task_for
from reloss_hf.tasks.keypoints.losses import targets_of


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    trainer = make_trainer(
        tmp_path_factory.mktemp("out"), arguments={"save_predictions": True, "surrogate_learn_again": 1}, **PCK
    )
    trainer.train()
    return trainer


def test_the_class_of_the_model_tells_the_task_and_its_names_tell_left_from_right(rows, tmp_path):
    assert task_for(make_vitpose()).name == "keypoints"
    assert make_trainer(tmp_path, rows, make_vitpose(), arguments=SHORT).task.names == NAMES


def test_a_miss_is_learned_and_takes_over(learned):
    report = learned.surrogate_report
    assert report.same_examples and report.metric == "pck" and report.base_loss_name == "squared error"
    first = next(entry for entry in learned.state.log_history if "surrogate_spearman" in entry)
    assert first["surrogate_spearman"] > first["squared_error_spearman"] + 0.05
    in_force = [e["surrogate_in_force"] for e in learned.state.log_history if "surrogate_in_force" in e]
    assert in_force == [0, 0, 0, 1, 1, 1]
    assert isinstance(learned.surrogate, ExpectedMiss) and learned.surrogate.joints == 4
    assert sum("squared_error" in entry for entry in learned.state.log_history) == 6


def test_evaluation_gives_the_loss_and_the_scores_of_places(learned):
    test = make_rows(40, seed=5)
    learned.compute_metrics = pose_compute_metrics(SIZE, **TORSO)
    found = learned.evaluate(test)
    assert found["eval_pck"] > 0.7 and 0 < found["eval_loss"] < 1 and 0 < found["eval_ap"] <= found["eval_ap_50"]
    predictions = learned.predict(test)
    assert predictions.predictions.shape == (40, 4, 16, 12) and len(predictions.label_ids) == 2
    unlabelled = [{"pixel_values": row["pixel_values"]} for row in test]
    assert learned.predict(unlabelled).metrics.keys().isdisjoint({"test_loss", "test_pck"})


def test_predictions_are_saved_and_the_command_line_compares_losses_on_them(learned, tmp_path, capsys):
    folder = learned.args.output_dir + "/predictions"
    saved = Predictions.load(folder)
    assert saved.names == tuple(f"joint_{number}" for number in range(4)) and saved.features["heatmaps"].shape[1:] == (
        4,
        16,
        12,
    )
    assert np.shape(saved.predictions) == (len(saved), 4, 2) and set(saved.references[0]) == {
        "keypoints",
        "box",
        "area",
    }
    options = ["--metric", "oks", "--group-size", "12", "--quiet", "--resamples", "5"]
    assert main(["diagnose", folder, *options, "--output", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr().out
    assert all(loss in printed for loss in ("squared error", "HeatmapCrossEntropy", "SoftArgmaxLoss"))
    assert main(["learn", folder, *options[:5], "--output", str(tmp_path / "surrogate")]) == 0
    card = (tmp_path / "surrogate" / "README.md").read_text()
    assert "ExpectedMiss" in card and "squared error" in card and "cross-entropy" not in card


def test_every_class_that_is_learned_can_be_learned_without_a_trainer(learned):
    predictions = Predictions.load(learned.args.output_dir + "/predictions")
    for cls in (ExpectedMiss, LogExpectedMiss, GatedSquaredError):
        learner = CandidateLearner(
            "pck", cls.__name__, metric_options=TORSO, group_size=20, sets=3, candidates=8, steps=25
        )
        report = learner.learn(predictions)
        assert isinstance(learner.surrogate, cls) and -1 <= report.spearman <= 1


def test_a_learned_surrogate_is_saved_and_trains_another_model(learned, rows, tmp_path):
    learned.save_model(tmp_path / "model")
    arguments = {"surrogate_start": 0, "max_steps": 2}
    again = make_trainer(tmp_path, rows, arguments=arguments, surrogate=tmp_path / "model" / "surrogate")
    again.train()
    assert again.surrogate_in_force and torch.equal(again.surrogate.radius, learned.surrogate.radius)
    assert isinstance(SurrogateLoss.from_pretrained(tmp_path / "model" / "surrogate"), ExpectedMiss)


def make_vitpose_with_experts():
    """VitPose++: the expert of each image comes with it."""
    return make_vitpose(num_experts=3, part_features=4)


@pytest.mark.parametrize("make_model", [make_vitpose, make_vitpose_with_experts, make_sapiens2])
def test_the_models_of_transformers_go_through_the_switch(rows, tmp_path, make_model):
    model = make_model()
    if make_model is make_vitpose_with_experts:
        rows = [row | {"dataset_index": torch.tensor(number % 3)} for number, row in enumerate(rows)]
    trainer = make_trainer(
        tmp_path, rows, model, Forced, SHORT | {"eval_strategy": "steps", "eval_steps": 3}, eval_dataset=rows[:10],
        compute_metrics=pose_compute_metrics(SIZE, **TORSO), **PCK,
    )  # fmt: skip
    trainer.train()
    assert trainer.surrogate_in_force
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_pck" in entry]
    assert len(losses) == 2 and all(np.isfinite(losses))
    trainer.save_model()
    type(model).from_pretrained(tmp_path)


def one_run(folder, rows, size, accumulation, **keywords):
    arguments = {
        "max_steps": 3,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": accumulation,
        "optim": "sgd",
        "learning_rate": 0.5,
    } | keywords.pop("arguments")
    trainer = make_trainer(folder, rows, cls=Forced, arguments=arguments, **keywords)
    trainer.train()
    return weights_of(trainer)


@pytest.mark.parametrize(
    "keywords",
    [
        {"arguments": {"surrogate_start": None}},
        {"arguments": {"surrogate_start": 2, "surrogate_learn_again": 0}} | PCK,
        {"arguments": {"surrogate_start": 0, "surrogate_cross_entropy_share": 0.5}, "surrogate": ExpectedMiss(4)},
        {"arguments": {"surrogate_start": 0}, "surrogate": GatedSquaredError(4)},
        {"arguments": {"surrogate_start": 0}, "surrogate": HeatmapCrossEntropy()},
        {"arguments": {"surrogate_start": 0}, "surrogate": HardKeypointMining()},
        {"arguments": {"surrogate_start": 0}, "surrogate": SoftArgmaxLoss()},
    ],
)
def test_eight_micro_batches_have_the_step_of_one(rows, tmp_path, keywords):
    runs = [one_run(tmp_path, rows, *split, **dict(keywords)) for split in ((8, 1), (1, 8))]
    assert (runs[0] - weights_of(make_trainer(tmp_path, rows))).abs().max() > 1e-4
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-6)


def test_persons_without_labelled_joints_cost_nothing_wherever_they_stand(rows, tmp_path):
    hidden = changed(rows[:2], visible=lambda row: torch.zeros(4, dtype=torch.bool))
    runs = [
        one_run(tmp_path, [*hidden, *rows[2:], *hidden], size, accumulation, **PCK, arguments={
            "surrogate_start": 2, "surrogate_learn_again": 0, "train_sampling_strategy": "sequential",
        })
        for size, accumulation in ((4, 2), (1, 8))
    ]  # fmt: skip
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-6)


def test_a_resumed_run_ends_as_one_that_was_not_stopped(rows, tmp_path):
    def run():
        arguments = {"save_strategy": "steps", "save_steps": 4, "max_steps": 12, "surrogate_learn_again": 1}
        return make_trainer(tmp_path / "run", rows, make_vitpose(), Forced, arguments, **PCK)

    whole = run()
    whole.train()
    for step in (4, 8):  # before the switch at step 6, and after it
        resumed = run()
        resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))
        torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=1e-5, atol=1e-6)
        assert torch.equal(resumed.surrogate.radius, whole.surrogate.radius)


def as_heatmaps(rows, with_weights):
    """Ready targets in place of keypoints."""
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    features = {
        "keypoints": batch["keypoints"], "heatmaps": torch.zeros(len(rows), 4, 16, 12),
        "input_size": torch.tensor([[24.0, 32.0]]).expand(len(rows), 2), "heatmap_sigma": torch.full((len(rows),), 2.0),
    }  # fmt: skip
    weights = batch["visible"][:, :, None, None].float()
    labels = targets_of(features) * (1 if with_weights else weights)
    ready = {"pixel_values": batch["pixel_values"], "labels": labels} | (
        {"label_weights": weights} if with_weights else {}
    )
    return [{name: value[row] for name, value in ready.items()} for row in range(len(rows))]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (16, 12)])
def test_weights_of_ready_heatmaps_may_have_any_shape_behind_the_joints(rows, tmp_path, shape):
    ready = changed(
        as_heatmaps(rows[:20], True), label_weights=lambda row: row["label_weights"].view(4, *[1] * len(shape))
    )
    ready = changed(ready, label_weights=lambda row: row["label_weights"].expand(4, *shape))
    trainer = make_trainer(tmp_path, ready, make_vitpose(), arguments={"surrogate_start": None})
    trainer.compute_metrics = pose_compute_metrics(SIZE, **TORSO)
    batch = trainer.data_collator(ready)
    assert trainer.task.weight(batch) == sum(row["visible"].sum() for row in rows[:20])
    assert np.isfinite(trainer.evaluate(ready)["eval_pck"])


@pytest.mark.parametrize("with_weights", [True, False])
def test_ready_heatmaps_train_as_keypoints_do(rows, tmp_path, with_weights):
    arguments = SHORT | {"remove_unused_columns": True}
    trainers = [
        make_trainer(tmp_path, given, make_vitpose(), Forced, arguments, **PCK)
        for given in (rows, as_heatmaps(rows, with_weights))
    ]
    losses, found = [], []
    for trainer, given in zip(trainers, (rows, as_heatmaps(rows, with_weights)), strict=True):
        trainer.train()
        assert trainer.surrogate_in_force
        losses.append([entry["squared_error"] for entry in trainer.state.log_history if "squared_error" in entry])
        trainer.compute_metrics = pose_compute_metrics(SIZE, **TORSO)
        found.append(trainer.evaluate(given[:20]))
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert found[0]["eval_pck"] == pytest.approx(found[1]["eval_pck"], abs=0.1) and found[1]["eval_loss"] > 0


def test_a_metric_of_ones_own_is_given_places_and_dicts(rows, tmp_path):
    seen = []

    def height_of_heads(predictions, references):
        seen.append((predictions, references))
        errors = [abs(pose[2][1] - gold["keypoints"][2][1]) for pose, gold in zip(predictions, references, strict=True)]
        return -float(np.mean(errors))

    trainer = make_trainer(tmp_path, rows, None, Forced, SHORT, metric=height_of_heads)
    trainer.train()
    assert trainer.surrogate_in_force and np.shape(seen[-1][0][0]) == (4, 2)


@pytest.mark.parametrize("arguments", [{"bf16": True}, {"gradient_checkpointing": True}])
def test_settings_of_the_trainer_go_through_the_switch(rows, tmp_path, arguments):
    trainer = make_trainer(tmp_path, rows, make_vitpose(), Forced, SHORT | arguments, **PCK)
    trainer.train()
    assert trainer.surrogate_in_force and np.isfinite(trainer.state.log_history[-1]["train_loss"])


class Pair(nn.Module):
    """A module of one's own that returns a tuple."""

    def __init__(self):
        super().__init__()
        self.dots, self.other = Dots(), nn.Linear(1, 1)

    def forward(self, pixel_values):
        return (self.dots(pixel_values)["heatmaps"], self.other(torch.zeros(1, 1)))


def test_a_module_that_returns_a_tuple_is_evaluated(rows, tmp_path):
    trainer = make_trainer(
        tmp_path, rows, Pair(), Forced, SHORT, eval_dataset=rows[:10],
        compute_metrics=lambda found: {"shape": float(found.predictions[0].shape[1])}, **PCK,
    )  # fmt: skip
    trainer.train()
    assert trainer.evaluate()["eval_shape"] == 4 and len(collect_predictions(trainer, rows[:10])) <= 10


def test_without_a_metric_training_stays_on_the_squared_error(rows, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = make_trainer(tmp_path, rows, make_vitpose(), arguments=SHORT)
    assert "training stays on squared error" in caplog.text
    trainer.train()
    assert not trainer.surrogate_in_force
    batch = trainer.data_collator(rows[:4])
    loss = trainer.compute_loss(trainer.model, batch)
    features = trainer.task.features(trainer.model, trainer.model(batch["pixel_values"]), batch, ())
    torch.testing.assert_close(KeypointSquaredError().batch_loss(features), loss)


def test_boxes_and_areas_reach_the_metric(rows, tmp_path):
    sized = changed(rows, box=lambda row: torch.tensor([10.0, 20.0]), area=lambda row: torch.tensor(50.0))
    trainer = make_trainer(tmp_path, sized, arguments={"surrogate_start": None, "max_steps": 1})
    assert collect_predictions(trainer, sized[:3]).references[0]["area"] == 50
    found = []
    trainer.compute_metrics = lambda prediction: found.append(prediction) or {"x": 0.0}
    trainer.evaluate(sized[:6])
    assert isinstance(found[0], EvalPrediction) and [len(part) for part in found[0].label_ids] == [6, 6, 6, 6]
