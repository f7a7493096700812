"""Taggers learn the costs of their errors from entity F1, and train on them."""

import logging

import numpy as np
import pytest
import torch
from forced import Forced
from peft import LoraConfig, get_peft_model
from torch import nn
from toy_tags import (
    NAMES,
    make_features,
    make_model,
    make_sentences,
    make_tokenizer,
    make_trainer,
    weights_of,
)
from transformers import DataCollatorWithPadding

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
    collect_predictions,
    prepare_tagging_features,
    surrogate_loss_func,
    tagging_compute_metrics,
)
from reloss_hf.cli import main
from reloss_hf.tasks import task_for
from reloss_hf.tasks.token_classification.evaluation import tags_of

SHORT = {"max_steps": 8, "surrogate_held_out_share": 0.3, "surrogate_learn_again": 0}
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
def small():
    return make_features(200)


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


def test_a_metric_of_ones_own_is_given_lists_of_names(small, tmp_path):
    seen = []

    def share_of_found_places(predictions, references):
        seen.append((predictions, references))
        pairs = [pair for rows in zip(predictions, references, strict=True) for pair in zip(*rows, strict=True)]
        return float(np.mean([left == right for left, right in pairs if right.endswith("-LOC")] or [0]))

    trainer = make_trainer(tmp_path, small, cls=Forced, arguments=SHORT, metric=share_of_found_places)
    trainer.train()
    assert trainer.surrogate_in_force
    assert all(isinstance(tags, list) and set(tags) <= set(NAMES) for rows in seen[-1] for tags in rows)
    assert len(seen[-1][0]) == len(seen[-1][1])


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


def test_adapters_are_trained(small, tmp_path):
    model = get_peft_model(make_model(), LoraConfig(task_type="TOKEN_CLS", target_modules=["query", "value"]))
    trainer = make_trainer(tmp_path, small, model, Forced, SHORT, metric="seqeval")
    trainer.train()
    assert trainer.surrogate_in_force


def test_long_texts_are_learned_from_in_windows(tmp_path):
    rows = prepare_tagging_features(make_sentences(80, longest=40), make_tokenizer(), NAMES, max_length=16, stride=4)
    trainer = make_trainer(tmp_path, rows, None, Forced, SHORT, metric="seqeval", eval_dataset=rows)
    trainer.train()
    assert trainer.surrogate_in_force
    predictions = collect_predictions(trainer, rows)
    assert sum(map(len, predictions.references)) == sum(label != -100 for row in rows["labels"] for label in row)


class Tagger(nn.Module):
    """A module of one's own, whose configuration names the tags."""

    def __init__(self):
        super().__init__()
        self.inner = make_model()
        self.config = self.inner.config
        self.other = nn.Linear(1, 1)

    def forward(self, input_ids, labels=None):
        return {"logits": self.inner(input_ids).logits + self.other(torch.zeros(1))} | (
            {} if labels is None else {"loss": self.inner(input_ids, labels=labels).loss}
        )


def test_a_module_of_ones_own_trains_if_the_task_is_named(small, tmp_path):
    trainer = make_trainer(tmp_path, small, Tagger(), Forced, SHORT, task="token_classification", metric="seqeval")
    trainer.train()
    assert trainer.surrogate_in_force


PLAIN = ("O", "PER", "LOC", "ORG", "MISC")


@pytest.mark.parametrize(
    ("names", "keywords", "message"),
    [
        (PLAIN, {"metric": "seqeval"}, r"tags \['LOC', .* are outside of scheme=None.*rename the tags"),
        ([f"LABEL_{i}" for i in range(5)], {"metric": "seqeval"}, "'LABEL_0'.* are outside of scheme=None"),
        (NAMES[:3], {"metric": "seqeval"}, r"labels \[3.* are no tags of the model, which are 0 to 2"),
        (NAMES[:3], {"surrogate": TagFocalLoss(), "start": 0}, "are no tags of the model, which are 0 to 2"),
        (NAMES[:3], {"surrogate": TagWeightedCrossEntropy(), "start": 0}, "are no tags of the model"),
        (["o", *NAMES[1:]], {"surrogate": TagSoftF1Loss(), "start": 0}, "treats the tag 'O' apart.*pass outside="),
        (NAMES, {"surrogate": TagCosts(7), "start": 0}, "learned for 7 tags, and BertForTokenClassification has 5"),
        (NAMES, {"metric": lambda predictions, references: 0.5}, "does not depend on the predictions"),
        (NAMES, {"metric": "seqeval", "metric_options": {"scheme": "IOE2", "mode": "strict"}}, "scheme='IOE2'"),
        (NAMES, {"metric": "seqeval", "metric_options": {"scheme": "BIO"}}, "scheme='BIO' must be one of"),
        (NAMES, {"surrogate": "TagCosts", "start": 0}, "is the name of a class"),
        (NAMES, {"metric": "accuracy"}, "'accuracy' compares classes, not lists of tags: .*metric='seqeval'"),
    ],
)
def test_bad_input_is_refused_at_construction(small, tmp_path, names, keywords, message):
    keywords = dict(keywords)
    arguments = SHORT | {"surrogate_start": keywords.pop("start", 0.5)}
    with pytest.raises((ValueError, RuntimeError), match=message):
        make_trainer(tmp_path, small, make_model(names=names), arguments=arguments, **keywords)


def test_a_tag_that_never_occurs_in_the_slice_is_named(small, tmp_path, caplog):
    held_out = small.filter(lambda row: 4 not in row["labels"])
    with caplog.at_level(logging.WARNING):
        make_trainer(tmp_path, small, arguments=SHORT, metric="seqeval", surrogate_dataset=held_out)
    assert "labels [4] never occur" in caplog.text


def test_losses_that_need_the_tag_outside_say_so():
    features = {"logits": torch.randn(1, 2, 3), "labels": torch.tensor([[0, 1]])}
    for loss in (OutsideWeightedCrossEntropy(), TagSoftF1Loss()):
        with pytest.raises(ValueError, match="outside=None of .*: pass the number of the tag 'O'"):
            loss(features)


def long_entities_found(predictions, references):
    """The share of the gold tags that continue an entity which are predicted."""
    pairs = [pair for row in zip(references, predictions, strict=True) for pair in zip(*row, strict=True)]
    return sum(gold[0] == "I" and gold == tag for gold, tag in pairs) / max(1, sum(gold[0] == "I" for gold, _ in pairs))


def test_a_metric_of_long_entities_alone_is_taken(small, tmp_path):
    make_trainer(tmp_path, small, arguments=SHORT, metric=long_entities_found)


def test_names_keep_their_numbers_where_json_made_texts_of_them():
    names = ["O", *(f"{prefix}-T{number}" for number in range(6) for prefix in "BI")]
    model = make_model(names=names)
    model.config.id2label = {str(number): name for number, name in enumerate(names)}
    assert tags_of(model) == tuple(names)


def test_the_collator_of_the_trainer_keeps_the_settings_of_the_given_one(small, tmp_path):
    collator = DataCollatorWithPadding(make_tokenizer(), pad_to_multiple_of=8)
    trainer = make_trainer(tmp_path, small, arguments={"surrogate_start": None}, data_collator=collator)
    assert trainer.data_collator.pad_to_multiple_of == 8


def test_given_weights_need_no_frequencies(small, tmp_path):
    stream = small.to_iterable_dataset()
    surrogate = TagWeightedCrossEntropy(weights=[0.3, 1, 1, 1, 1])
    trainer = make_trainer(tmp_path, stream, arguments={"surrogate_start": 0, "max_steps": 2}, surrogate=surrogate)
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_loss_that_is_written_by_hand_is_not_learned(small, tmp_path):
    with pytest.raises(ValueError, match="'TagSoftF1Loss' cannot be learned"):
        make_trainer(tmp_path, small, arguments=SHORT | {"surrogate_class": "TagSoftF1Loss"}, metric="seqeval")
