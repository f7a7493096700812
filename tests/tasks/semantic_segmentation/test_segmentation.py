"""Models of segmentation learn the costs of their errors from mean IoU, and train on them."""

import numpy as np
import pytest
import torch
from forced import Forced
from peft import LoraConfig, get_peft_model
from torch import nn
from toy_pixels import (
    NAMES,
    VOID,
    Segformer,
    as_dataset,
    make_convolutions,
    make_model,
    make_scenes,
    make_trainer,
    weights_of,
)
from transformers import (
    ResNetConfig,
    Trainer,
    TrainingArguments,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from reloss_hf import (
    PixelCosts,
    PixelCrossEntropy,
    PixelDiceLoss,
    PixelFocalLoss,
    PixelJaccardLoss,
    PixelLovaszLoss,
    PixelSoftCounts,
    PixelWeightedCrossEntropy,
    Predictions,
    SurrogateLoss,
    collect_predictions,
    segmentation_compute_metrics,
    surrogate_loss_func,
)
from reloss_hf.cli import main
from reloss_hf.tasks import task_for

SHORT = {"max_steps": 6, "surrogate_learn_again": 0}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    arguments = {"save_predictions": True, "surrogate_learn_again": 1}
    trainer = make_trainer(tmp_path_factory.mktemp("out"), metric="mean_iou", arguments=arguments)
    trainer.train()
    return trainer


def test_costs_of_errors_are_learned_and_take_over(learned):
    assert learned.task.name == task_for(make_model()).name == "semantic_segmentation"
    report = learned.surrogate_report
    assert report.same_examples and report.metric == "mean_iou"
    assert report.spearman > report.spearman_cross_entropy + 0.05
    in_force = [e["surrogate_in_force"] for e in learned.state.log_history if "surrogate_in_force" in e]
    assert in_force == [0, 0, 0, 1, 1, 1]
    assert isinstance(learned.surrogate, PixelCosts) and learned.surrogate.classes == len(NAMES)


def test_training_on_it_raises_mean_iou(learned, tmp_path):
    test = make_scenes(100, seed=5)
    plain = make_trainer(tmp_path, arguments={"surrogate_start": None})
    plain.train()
    scores = []
    for trainer in (plain, learned):
        trainer.compute_metrics = segmentation_compute_metrics(trainer.model)
        scores.append(trainer.evaluate(test))
    assert scores[0]["eval_iou_pole"] < 0.1 < 0.2 < scores[1]["eval_iou_pole"]
    assert scores[1]["eval_mean_iou"] > scores[0]["eval_mean_iou"] + 0.02


def test_what_is_kept_of_each_image_is_a_sample_of_its_pixels(learned):
    predictions = learned.predictions
    assert len(predictions) == 60
    assert sum(value.nbytes for value in predictions.features.values()) == 60 * 1024 * (4 * len(NAMES) + 8)
    assert predictions.references == predictions.features["labels"].squeeze(2).tolist()
    assert predictions.predictions == predictions.features["logits"].argmax(-1).squeeze(2).tolist()


def test_the_command_line_compares_and_learns_from_saved_predictions(learned, tmp_path, capsys):
    folder = learned.args.output_dir + "/predictions"
    quiet = ["--metric", "mean_iou", "--group-size", "2", "--quiet"]
    assert main(["diagnose", folder, *quiet, "--resamples", "20", "--output", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr().out
    assert all(loss in printed for loss in ("PixelJaccardLoss", "PixelLovaszLoss", "cross-entropy"))
    assert main(["learn", folder, *quiet, "--output", str(tmp_path / "surrogate")]) == 0
    surrogate = SurrogateLoss.from_pretrained(tmp_path / "surrogate")
    assert isinstance(surrogate, PixelCosts) and surrogate.classes == len(NAMES)
    assert "PixelCosts" in (tmp_path / "surrogate" / "README.md").read_text()


def test_a_learned_surrogate_is_saved_and_trains_another_model(learned, small, tmp_path):
    learned.surrogate.save_pretrained(tmp_path / "surrogate")
    arguments = {"surrogate_start": 0, "max_steps": 2}
    again = make_trainer(tmp_path, small, arguments=arguments, surrogate=tmp_path / "surrogate")
    again.train()
    assert again.surrogate_in_force and torch.equal(again.surrogate.costs, learned.surrogate.costs)


def test_a_metric_of_ones_own_is_given_the_classes_of_pixels(small, tmp_path):
    seen = []

    def recall_of_poles(predictions, references):
        seen.append((predictions, references))
        pairs = [(np.asarray(found), np.asarray(gold)) for found, gold in zip(predictions, references, strict=True)]
        return float(np.mean([np.mean(found[gold == 2] == 2) for found, gold in pairs if (gold == 2).any()] or [0]))

    make_trainer(tmp_path, small, cls=Forced, arguments=SHORT, metric=recall_of_poles).train()
    for row in (*seen[-1][0], *seen[-1][1]):
        assert len(row) == 1024 and set(np.unique(row)) <= {0, 1, 2}


def one_run(folder, rows, size, accumulation, model=None, **keywords):
    arguments = {
        "max_steps": 3,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": accumulation,
        "optim": "sgd",
        "learning_rate": 0.5,
        "surrogate_learn_again": 0,
    } | keywords.pop("arguments")
    trainer = make_trainer(folder, rows, model or make_model(), arguments=arguments, **keywords)
    trainer.train()
    return weights_of(trainer)


def unequal(count=80):
    """Scenes with very different numbers of labelled pixels, some without any."""
    rows = make_scenes(count, seed=3)
    masks = rows["labels"][:].clone()
    for row in range(count):
        masks[row, (3 * row) % 16 :] = VOID
    return as_dataset(rows["pixel_values"][:], masks)


def make_upernet():
    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3"]
    )
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=8, pool_scales=[1, 2], auxiliary_channels=8, auxiliary_in_channels=8,
        auxiliary_num_convs=1, num_labels=len(NAMES),
    )  # fmt: skip

    class UperNet(UperNetForSemanticSegmentation):
        train = Segformer.train

    UperNet.train = lambda self, mode=True: nn.Module.train(self, False)  # batch norm is no mean over examples
    return UperNet(config)


@pytest.mark.parametrize(
    ("make", "keywords"),
    [
        (make_model, {"arguments": {"surrogate_start": None}}),
        (make_model, {"arguments": {"surrogate_start": 2}, "metric": "mean_iou", "cls": Forced}),
        (make_model, {"arguments": {"surrogate_start": 0}, "surrogate": PixelJaccardLoss()}),
        (make_convolutions, {"arguments": {"surrogate_start": 0}, "surrogate": PixelDiceLoss()}),
        (make_convolutions, {"arguments": {"surrogate_start": 0}, "surrogate": PixelFocalLoss()}),
        (make_convolutions, {"arguments": {"surrogate_start": 0}, "surrogate": PixelWeightedCrossEntropy(power=0.5)}),
        (make_convolutions, {"arguments": {"surrogate_start": 0}, "surrogate": PixelSoftCounts(len(NAMES))}),
        (make_upernet, {"arguments": {"surrogate_start": None, "learning_rate": 0.1}}),
        (make_upernet, {"arguments": {"surrogate_start": 0, "learning_rate": 0.1}, "surrogate": PixelCrossEntropy()}),
    ],
)
def test_eight_micro_batches_have_the_step_of_one(tmp_path, make, keywords):
    rows = unequal()
    runs = [one_run(tmp_path, rows, *split, make(), **dict(keywords)) for split in ((8, 1), (2, 4), (1, 8))]
    assert runs[0].isfinite().all()
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(runs[0], runs[2], rtol=1e-3, atol=1e-4)


def test_the_plain_trainer_has_other_steps(tmp_path):
    """So the test above would notice."""
    runs = []
    for size, accumulation in ((8, 1), (1, 8)):
        args = TrainingArguments(
            str(tmp_path), max_steps=3, per_device_train_batch_size=size, gradient_accumulation_steps=accumulation,
            optim="sgd", learning_rate=0.5, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        rows = unequal().filter(lambda row: (row["labels"] != VOID).any())
        trainer = Trainer(make_model(), args, train_dataset=rows)
        trainer.train()
        runs.append(weights_of(trainer))
    assert (runs[0] - runs[1]).abs().max() > 1e-2


def test_the_lovasz_loss_takes_one_line(small, tmp_path):
    trainer = make_trainer(
        tmp_path, small, arguments={"surrogate_start": 0, "max_steps": 2}, surrogate=PixelLovaszLoss()
    )
    trainer.train()
    assert trainer.surrogate_in_force and np.isfinite(trainer.state.log_history[-1]["train_loss"])


@pytest.mark.parametrize("make", [make_model, make_upernet])
def test_the_loss_before_the_switch_is_that_of_the_model(small, tmp_path, make):
    trainer = make_trainer(tmp_path, small, make())
    batch = trainer.data_collator([small[row] for row in range(8)])
    outputs = trainer.model.train()(**batch)
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch), outputs.loss)
    features = trainer.task.features(trainer.model, outputs, batch, PixelCrossEntropy.reads)
    own, lasting = PixelCrossEntropy().batch_loss(features), trainer.task.lasting_loss(outputs, features)
    torch.testing.assert_close(own + (0 if lasting is None else lasting), outputs.loss)


def test_the_loss_of_an_auxiliary_head_stays_after_the_switch(small, tmp_path):
    arguments = {"surrogate_start": 0, "max_steps": 1}
    trainer = make_trainer(tmp_path, small, make_upernet(), arguments=arguments, surrogate=PixelCrossEntropy())
    trainer.train()
    batch = trainer.data_collator([small[row] for row in range(8)])
    expected = trainer.model(**batch).loss
    loss = trainer.surrogate_loss(trainer.model, batch, trainer.surrogate).loss
    torch.testing.assert_close(loss, expected)
    trainer.model.zero_grad()
    loss.backward()
    assert all(weight.grad.abs().sum() > 0 for weight in trainer.model.auxiliary_head.classifier.parameters())


def test_a_resumed_run_ends_as_one_that_was_not_stopped(small, tmp_path):
    def run():
        arguments = {"save_strategy": "steps", "save_steps": 4, "max_steps": 12}
        return make_trainer(tmp_path / "run", small, cls=Forced, arguments=arguments, metric="mean_iou")

    whole, resumed = run(), run()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-8"))
    torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=1e-5, atol=1e-6)
    assert torch.equal(resumed.surrogate.costs, whole.surrogate.costs)


@pytest.mark.parametrize(
    "arguments", [{"bf16": True}, {"eval_strategy": "epoch", "surrogate_class": "PixelSoftCounts"}]
)
def test_settings_of_the_trainer_go_through_the_switch(small, tmp_path, arguments):
    model = make_convolutions()
    trainer = make_trainer(
        tmp_path, small, model, Forced, SHORT | arguments | {"batch_eval_metrics": True}, metric="mean_accuracy",
        eval_dataset=small, compute_metrics=segmentation_compute_metrics(model),
    )  # fmt: skip
    trainer.train()
    assert trainer.surrogate_in_force and np.isfinite(trainer.state.log_history[-1]["train_loss"])
    assert 0 <= trainer.evaluate()["eval_mean_iou"] <= 1


def test_adapters_are_trained(small, tmp_path):
    model = get_peft_model(make_model(), LoraConfig(target_modules=["q_proj", "v_proj", "query", "value"]))
    trainer = make_trainer(tmp_path, small, model, Forced, SHORT, metric="overall_accuracy")
    trainer.train()
    assert trainer.task.ignored == VOID and trainer.surrogate_in_force


class Segmenter(nn.Module):
    """A module of one's own, without a configuration."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, len(NAMES), 3, padding=1)

    def forward(self, pixel_values, labels=None):
        logits = self.second(self.first(pixel_values).relu())
        if labels is None:
            return {"logits": logits}
        whole = nn.functional.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
        return {"logits": logits, "loss": nn.functional.cross_entropy(whole, labels)}


def test_a_module_of_ones_own_is_told_by_its_outputs(tmp_path):
    trainer = make_trainer(tmp_path, make_scenes(100, void=False), Segmenter(), Forced, SHORT, metric="mean_iou")
    trainer.train()
    assert trainer.task.name == "semantic_segmentation" and trainer.task.classes == len(NAMES)
    assert trainer.surrogate_in_force


def test_a_compute_loss_func_has_the_loss_of_the_trainer(small):
    model = make_model()
    batch = {name: small[name][:8] for name in small.column_names}
    loss = surrogate_loss_func(PixelCrossEntropy(), model)(model(batch["pixel_values"]), batch["labels"])
    torch.testing.assert_close(loss, model(**batch).loss)
    assert (batch["labels"] == VOID).any()
    with pytest.raises(ValueError, match="labels of 255 count for nothing, but a plain Trainer counts all.*by -100"):
        surrogate_loss_func(PixelCrossEntropy(), model)(model(batch["pixel_values"]), batch["labels"], 2048)


def test_predictions_of_any_data_are_collected(small, tmp_path):
    trainer = make_trainer(tmp_path, small, arguments={"surrogate_start": None})
    predictions = collect_predictions(trainer, unequal(20))
    assert len(predictions) == 20 - 2  # without the images that have no labelled pixel
    predictions.save(tmp_path / "saved")
    assert Predictions.load(tmp_path / "saved").features["logits"].equal(predictions.features["logits"])
