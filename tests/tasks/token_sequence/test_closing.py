"""Costs of closing a text too early and too late, learned from one output that can be cut at several places."""

import pytest
import torch
from tiny_generators import llama
from torch.nn.functional import softplus
from transformers import LogitsProcessor, LogitsProcessorList

from reloss_hf import CandidateLearner, GroupMetric, NgramSurrogate, Predictions, SurrogateLoss
from reloss_hf.tasks.functional import log_odds
from reloss_hf.tasks.token_sequence.closing import ClosingCosts, ClosingNgrams, closing_features, decode, moved
from reloss_hf.tasks.token_sequence.features import target_log_probs
from reloss_hf.tasks.token_sequence.task import TokenSequenceTask

END, STOP, MASK = 1, 2, -100
LABELS = torch.tensor(
    [
        [5, 6, STOP, END, MASK],  # closed by the mark
        [5, STOP, 6, END, MASK],  # a mark inside closes nothing, so the end does
        [5, 6, 7, 8, 9],  # cut: nothing closes it
        [STOP, END, MASK, MASK, MASK],
    ]
)


def features_of(logits, labels=LABELS):
    known = labels != MASK
    return {
        "target_log_probs": target_log_probs(logits, labels),
        "target_mask": known,
        **closing_features(logits, labels, torch.tensor([END, STOP]), labels == END),
    }


@pytest.fixture
def logits():
    return 2 * torch.randn(*LABELS.shape, 12, generator=torch.Generator().manual_seed(0))


def with_costs(early, late):
    loss = ClosingCosts()
    with torch.no_grad():
        loss.log_costs.copy_(torch.tensor([early, late]).log())
    return loss


@pytest.fixture
def predicted(warm_model, tokenizer, toy_data, collator):
    model = warm_model().eval()
    task, rows = TokenSequenceTask(model, tokenizer), toy_data(192, seed=5)
    inputs = dict(collator([rows[row] for row in range(192)]))
    with torch.no_grad():
        found = task.predictions_to_perturb(model(**task.without_labels(inputs)), inputs, 0)
    return model, inputs, found


def test_a_text_is_closed_by_a_last_mark_or_by_the_end(logits):
    features = features_of(logits)
    assert features["closing_mask"].nonzero().tolist() == [[0, 2], [1, 3], [3, 0]]
    assert features["open_mask"].sum(1).tolist() == [2, 2, 5, 0]
    probability = logits.softmax(-1)[..., [END, STOP]].sum(-1)
    known = LABELS != MASK
    torch.testing.assert_close(features["closing_log_probs"].exp()[known], probability[known])


def test_costs_of_1_are_cross_entropy(logits):
    features = features_of(logits)
    torch.testing.assert_close(ClosingCosts()(features), ClosingCosts.cross_entropy(features))


@pytest.mark.parametrize("costs", [(1.0, 1.0), (0.3, 4.0), (6.0, 0.2)])
def test_more_probability_for_the_target_never_costs_more(logits, costs):
    logits.requires_grad_(True)
    with_costs(*costs)(features_of(logits)).sum().backward()
    known = LABELS != MASK
    of_targets = logits.grad.gather(2, LABELS.clamp(min=0).unsqueeze(2)).squeeze(2)[known]
    assert (of_targets <= 1e-7).all() and (of_targets < -1e-3).any()


def test_early_and_late_are_weighted_apart(logits):
    features = features_of(logits)
    odds = log_odds(features["closing_log_probs"])
    early = (softplus(odds) * features["open_mask"]).sum(1) / features["target_mask"].sum(1)
    loss = with_costs(4.0, 0.25)
    dearer, _ = loss.costs.detach()
    plain = features | {"closing_mask": torch.zeros_like(features["closing_mask"])}
    difference = loss(plain) - ClosingCosts()(plain)
    torch.testing.assert_close(difference, (dearer - 1) * early, rtol=1e-3, atol=1e-4)


def test_moved_features_are_those_of_a_model_with_other_scores(logits):
    other = logits.clone()
    other[..., [END, STOP]] += 0.7
    expected, found = features_of(other), moved(features_of(logits), torch.tensor([0.7]))
    known = LABELS != MASK
    torch.testing.assert_close(found["closing_log_probs"][known], expected["closing_log_probs"][known])
    no_mark_inside = known & (features_of(logits)["open_mask"] | features_of(logits)["closing_mask"])
    torch.testing.assert_close(
        found["target_log_probs"][no_mark_inside], expected["target_log_probs"][no_mark_inside], rtol=1e-4, atol=1e-4
    )


def test_n_grams_are_matched_by_a_model_whose_closing_tokens_score_less(logits):
    loss, features = ClosingNgrams(), features_of(logits)
    torch.testing.assert_close(loss(features), NgramSurrogate()(features))
    with torch.no_grad():
        loss.shift.fill_(1.5)
    torch.testing.assert_close(loss(features), NgramSurrogate()(moved(features, torch.tensor([-1.5]))))


def test_n_grams_need_the_whole_move_as_their_shift(logits):
    """With costs a model that knows the probabilities moves by itself. With the n-gram match it does not."""
    costs, ngrams, again, features = with_costs(4.0, 0.25), ClosingNgrams(), ClosingNgrams(), features_of(logits)
    ngrams.log_costs.data.copy_(costs.log_costs)
    again.log_costs.data.copy_(costs.log_costs)
    costs.settle(features)
    ngrams.settle(features)
    torch.testing.assert_close(ngrams.shift, costs.shift + costs.own_move(features))
    nearer = moved(features, torch.tensor([-1.0]))
    again.settle(nearer, ngrams)
    torch.testing.assert_close(again.shift, ngrams.shift + again.best_move(nearer))


class Added(LogitsProcessor):
    def __init__(self, token, amount):
        self.token, self.amount = token, amount

    def __call__(self, input_ids, scores):
        scores[:, self.token] += self.amount
        return scores


@pytest.mark.parametrize("move", [-3.0, -1.0, 0.0, 3.0, 8.0])
def test_stops_are_where_the_model_would_end_with_other_scores(predicted, tokenizer, move):
    model, inputs, found = predicted
    source = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    most = inputs["labels"].shape[1] + 8
    rows = model.generate(
        **source,
        max_new_tokens=most,
        num_beams=1,
        logits_processor=LogitsProcessorList([Added(tokenizer.eos_token_id, move)]),
    )
    ended = (rows[:, 1:] == tokenizer.eos_token_id).any(1)
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
    cut = decode(moved(found.features, torch.tensor([move]))).tolist()
    assert ended.float().mean() > 0.3
    assert [text for text, whole in zip(cut, ended, strict=True) if whole] == [
        text for text, whole in zip(texts, ended, strict=True) if whole
    ]


@pytest.mark.parametrize(("metric", "later"), [("long", True), ("short", False)])
def test_the_costs_are_those_of_the_metric(predicted, metric, later):
    _, _, found = predicted

    def long(predictions, references):
        return sum(len(text.split()) for text in predictions)

    def short(predictions, references):
        return -long(predictions, references)

    learner = CandidateLearner(GroupMetric({"long": long, "short": short}[metric]), "ClosingCosts", group_size=64)
    report = learner.learn(found)
    early, late = learner.surrogate.costs.tolist()
    assert (early > late) == later
    assert report.spearman > 0.8 and report.foreseen_gain > 0


@pytest.mark.parametrize(("held_out", "loss"), [(0, "ClosingCosts"), (128, "ClosingCosts"), (128, "ClosingNgrams")])
def test_a_trainer_learns_them_and_saves_them(
    make, warm_model, tokenizer, toy_data, collator, tmp_path, held_out, loss
):
    trainer = make(
        warm_model(),
        toy_data(512),
        {"surrogate_class": loss, "surrogate_group_size": 32, "max_steps": 4},
        metric="ter",
        surrogate_dataset=toy_data(held_out, seed=3) if held_out else None,
        processing_class=tokenizer,
        data_collator=collator,
    )
    trainer.train()
    assert trainer.surrogate_report.metric == "ter" and trainer.surrogate_report.same_examples
    if trainer.surrogate is not None:
        trainer.surrogate.save_pretrained(tmp_path / "loss")
        loaded = SurrogateLoss.from_pretrained(tmp_path / "loss")
        torch.testing.assert_close(loaded.costs, trainer.surrogate.costs.cpu())


@pytest.mark.parametrize("names", [("NgramSurrogate", "ClosingCosts"), ("ClosingCosts", "NgramSurrogate")])
def test_a_checkpoint_before_the_switch_may_be_of_a_run_that_learns_in_another_way(
    make, warm_model, tokenizer, toy_data, collator, tmp_path, names
):
    def run(name, **arguments):
        settings = {"surrogate_class": name, "surrogate_group_size": 4, "surrogate_start": 4, "max_steps": 6}
        data = {"metric": "ter", "surrogate_dataset": toy_data(128, seed=3) if name == "ClosingCosts" else None}
        parts = {"processing_class": tokenizer, "data_collator": collator}
        return make(warm_model(), toy_data(512), settings | arguments, **parts | data)

    first, then = names
    run(first, save_strategy="steps", save_steps=1).train()
    trainer = run(then)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert trainer.state.global_step == 6


def test_saved_predictions_are_decoded_as_before(predicted, tmp_path):
    _, _, found = predicted
    found.save(tmp_path)
    loaded = Predictions.load(tmp_path)
    assert decode(loaded.features).tolist() == found.predictions


def test_a_decoder_only_model_is_refused_before_the_first_step(make, rows, tokenizer):
    rows = [{"input_ids": row["labels"], "labels": row["labels"]} for row in rows]
    with pytest.raises(ValueError, match="decoder-only"):
        make(
            llama(),
            rows,
            {"surrogate_class": "ClosingCosts"},
            metric="ter",
            surrogate_dataset=rows,
            processing_class=tokenizer,
        )


def test_without_a_tokenizer_the_marks_are_not_known(make, rows):
    with pytest.raises(ValueError, match="processing_class=None cannot decode"):
        make(llama(), rows, surrogate=ClosingCosts()).train()
