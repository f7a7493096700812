"""Taggers learn the costs of their errors from entity F1, and train on them."""

import numpy as np
import pytest
import torch
from forced import Forced
from torch import nn
from toy_tags import NAMES, SHORT, make_features, make_model, make_trainer, weights_of

from reloss_hf import (
    OutsideWeightedCrossEntropy,
    Predictions,
    SurrogateLoss,
    TagCosts,
    TagCrossEntropy,
    TagDiceLoss,
    TagFocalLoss,
    TagSoftF1Loss,
    TagWeightedCrossEntropy,
    surrogate_loss_func,
    tagging_compute_metrics,
)
from reloss_hf.cli import main
from reloss_hf.tasks import task_for

HAND_MADE = [
    TagWeightedCrossEntropy,
    lambda: TagWeightedCrossEntropy(power=0.5),
    OutsideWeightedCrossEntropy,
    TagFocalLoss,
    TagDiceLoss,
    lambda: TagDiceLoss(alpha=1),
    TagSoftF1Loss,
    lambda: TagSoftF1Loss("macro"),
]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    arguments = {"save_predictions": True, "surrogate_learn_again": 1}
    trainer = make_trainer(tmp_path_factory.mktemp("out"), metric="seqeval", arguments=arguments)
    trainer.train()
    return trainer


def test_the_class_of_the_model_tells_the_task():
    assert task_for(make_model()).name == "token_classification"


def test_costs_of_errors_are_learned_and_take_over(learned):
    report = learned.surrogate_report
    assert report.same_examples and report.metric == "seqeval"
    assert report.spearman > report.spearman_cross_entropy + 0.3
    in_force = [e["surrogate_in_force"] for e in learned.state.log_history if "surrogate_in_force" in e]
    assert in_force == [0, 0, 0, 1, 1, 1]
    assert isinstance(learned.surrogate, TagCosts) and learned.surrogate.classes == len(NAMES)


def test_training_on_it_raises_entity_f1(learned, tmp_path):
    test = make_features(400, seed=5)
    plain = make_trainer(tmp_path, arguments={"surrogate_start": None})
    plain.train()
    scores = []
    for trainer in (plain, learned):
        trainer.compute_metrics = tagging_compute_metrics(trainer.model, test)
        scores.append(trainer.evaluate(test)["eval_overall_f1"])
    assert scores[1] > scores[0] + 0.2


def test_predictions_are_saved_with_the_names_of_the_tags(learned):
    saved = Predictions.load(learned.args.output_dir + "/predictions")
    assert saved.names == NAMES
    tags = saved.features["labels"]
    for row, reference in zip(tags.tolist(), saved.references, strict=True):
        assert [NAMES[tag] for tag in row if tag != -100] == reference


def test_the_command_line_compares_and_learns_from_them(learned, tmp_path, capsys):
    folder = learned.args.output_dir + "/predictions"
    quiet = ["--metric", "seqeval", "--group-size", "64", "--quiet"]
    assert main(["diagnose", folder, *quiet, "--resamples", "20", "--output", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr().out
    assert all(loss in printed for loss in ("TagSoftF1Loss", "OutsideWeightedCrossEntropy", "cross-entropy"))
    assert main(["learn", folder, *quiet, "--output", str(tmp_path / "surrogate")]) == 0
    assert isinstance(SurrogateLoss.from_pretrained(tmp_path / "surrogate"), TagCosts)
    assert "TagCosts" in (tmp_path / "surrogate" / "README.md").read_text()


def test_a_learned_surrogate_is_saved_and_trains_another_model(learned, small, tmp_path):
    learned.surrogate.save_pretrained(tmp_path / "surrogate")
    arguments = {"surrogate_start": 0, "max_steps": 2}
    again = make_trainer(tmp_path, small, arguments=arguments, surrogate=tmp_path / "surrogate")
    again.train()
    assert again.surrogate_in_force and torch.equal(again.surrogate.costs, learned.surrogate.costs)


def one_run(folder, rows, size, accumulation, **keywords):
    arguments = {
        "max_steps": 3,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": accumulation,
        "optim": "sgd",
        "learning_rate": 0.5,
        "surrogate_held_out_share": 0.3,
    } | keywords.pop("arguments")
    trainer = make_trainer(folder, rows, arguments=arguments, **keywords)
    trainer.train()
    return weights_of(trainer)


@pytest.mark.parametrize(
    "keywords",
    [
        {"arguments": {"surrogate_start": None}},
        {"arguments": {"surrogate_start": 2}, "metric": "seqeval", "cls": Forced},
        {"arguments": {"surrogate_start": 2, "surrogate_cross_entropy_share": 0.5}, "metric": "seqeval", "cls": Forced},
    ],
)
def test_eight_micro_batches_have_the_step_of_one(small, tmp_path, keywords):
    runs = [one_run(tmp_path, small, *split, **dict(keywords)) for split in ((8, 1), (1, 8), (4, 2))]
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(runs[0], runs[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", HAND_MADE)
def test_hand_made_losses_take_one_line_and_split_batches_have_the_step_of_one(small, tmp_path, loss):
    runs = [
        one_run(tmp_path, small, *split, arguments={"surrogate_start": 0}, surrogate=loss())
        for split in ((8, 1), (1, 8))
    ]
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-6)


def test_the_loss_before_the_switch_is_that_of_the_model(small, tmp_path):
    trainer = make_trainer(tmp_path, small)
    batch = trainer.data_collator([small[row] for row in range(8)])
    outputs = trainer.model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")})
    features = trainer.task.features(trainer.model, outputs, batch, TagCrossEntropy.reads)
    torch.testing.assert_close(TagCrossEntropy().batch_loss(features), outputs.loss)
    loss_func = surrogate_loss_func(TagCrossEntropy(), trainer.model)
    torch.testing.assert_close(loss_func(outputs, batch["labels"]), outputs.loss)


def test_hand_made_losses_equal_what_is_pasted_from_forums():
    logits, labels = torch.randn(4, 6, 5), torch.randint(0, 5, (4, 6))
    labels[0, 2:], labels[3] = -100, -100
    features, known = {"logits": logits, "labels": labels}, labels != -100
    flat, gold = logits[known], labels[known]
    weights = torch.tensor([0.3, 1, 1, 1, 1])
    pasted = nn.functional.cross_entropy(flat, gold, weights, reduction="none").mean()
    torch.testing.assert_close(OutsideWeightedCrossEntropy(0.3, outside=0).batch_loss(features), pasted)
    torch.testing.assert_close(TagWeightedCrossEntropy(weights=weights).batch_loss(features), pasted)
    right = flat.softmax(1)[range(len(gold)), gold]
    torch.testing.assert_close(TagFocalLoss(2).batch_loss(features), (-((1 - right) ** 2) * right.log()).mean())
    p, y = flat.softmax(1), nn.functional.one_hot(gold, 5)
    dice = (1 - (2 * p * y + 1) / (p + y + 1)).sum(1).mean()
    torch.testing.assert_close(TagDiceLoss().batch_loss(features), dice, rtol=1e-4, atol=1e-5)
    hits, predicted, found = ((p * y)[:, 1:].sum(), p[:, 1:].sum(), y[:, 1:].sum())
    torch.testing.assert_close(TagSoftF1Loss(outside=0).batch_loss(features), 1 - 2 * hits / (predicted + found))


def test_costs_are_a_weight_for_each_kind_of_error():
    logits, labels = torch.randn(2, 4, 3), torch.tensor([[0, 2, 1, -100], [1, -100, -100, -100]])
    loss = TagCosts(3)
    loss.remainders.data = torch.tensor([[0.5, -0.2, 0.1], [-0.3, 0.2, -0.3]])
    missed, alarmed = loss.costs
    probabilities, losses = logits.softmax(-1), []
    for sentence, tags in zip(probabilities, labels.tolist(), strict=True):
        kept = [
            -missed[tag] * p[tag].log() - sum(alarmed[c] * (1 - p[c]).log() for c in range(3) if c != tag)
            for p, tag in zip(sentence, tags, strict=True)
            if tag != -100
        ]
        losses.append(sum(kept) / len(kept))
    features = {"logits": logits, "labels": labels}
    torch.testing.assert_close(loss(features), torch.stack(losses))
    assert loss.weights(features).tolist() == [3, 1]


def test_tokens_that_count_for_nothing_change_nothing():
    logits, labels = torch.randn(2, 4, 5), torch.tensor([[0, 2, 1, -100], [1, 3, -100, -100]])
    other = torch.where((labels == -100).unsqueeze(2), 7 * torch.randn(2, 4, 5), logits)
    for make in (TagCrossEntropy, lambda: TagCosts(5), lambda: TagSoftF1Loss(outside=0), TagDiceLoss, TagFocalLoss):
        values = [make().batch_loss({"logits": given, "labels": labels}) for given in (logits, other)]
        torch.testing.assert_close(*values)


def test_a_resumed_run_ends_as_one_that_was_not_stopped(small, tmp_path):
    def run():
        arguments = {"save_strategy": "steps", "save_steps": 8, "max_steps": 24, "surrogate_held_out_share": 0.3}
        return make_trainer(tmp_path / "run", small, cls=Forced, arguments=arguments, metric="seqeval")

    whole, resumed = run(), run()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-16"))
    torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=1e-5, atol=1e-6)
    assert torch.equal(resumed.surrogate.costs, whole.surrogate.costs)


@pytest.mark.parametrize("arguments", [{"bf16": True}, {"gradient_checkpointing": True}, {"eval_strategy": "epoch"}])
def test_settings_of_the_trainer_go_through_the_switch(small, tmp_path, arguments):
    model = make_model()
    trainer = make_trainer(
        tmp_path, small, model, Forced, SHORT | arguments, metric="seqeval", eval_dataset=small,
        compute_metrics=tagging_compute_metrics(model, small),
    )  # fmt: skip
    trainer.train()
    assert trainer.surrogate_in_force and np.isfinite(trainer.state.log_history[-1]["train_loss"])
    assert 0 <= trainer.evaluate()["eval_overall_f1"] <= 1
