"""What people pass to a trainer of taggers: their own models, metrics and data, and what is refused."""

import logging

import numpy as np
import pytest
import torch
from forced import Forced
from peft import LoraConfig, get_peft_model
from torch import nn
from toy_tags import NAMES, SHORT, make_model, make_sentences, make_tokenizer, make_trainer
from transformers import DataCollatorWithPadding

from reloss_hf import (
    OutsideWeightedCrossEntropy,
    TagCosts,
    TagFocalLoss,
    TagSoftF1Loss,
    TagWeightedCrossEntropy,
    collect_predictions,
    prepare_tagging_features,
)
from reloss_hf.tasks.token_classification.evaluation import tags_of


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
