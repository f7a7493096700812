from types import SimpleNamespace

import pytest
import torch
from sacrebleu.metrics import BLEU
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from reloss_hf import MinimumRiskLoss, NgramSurrogate, PrefixNgramSurrogate
from reloss_hf.tasks import Candidate, task_for
from reloss_hf.tasks.token_sequence.task import TokenSequenceTask, target_log_probs

READS = NgramSurrogate.reads


@pytest.fixture
def batch(toy_data, collator):
    return dict(collator([toy_data(16)[i] for i in range(12)]))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def causal_model(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    return LlamaForCausalLM(config).eval()


def test_features_are_log_probabilities_of_the_targets(toy_model, tokenizer, batch):
    model = toy_model().eval()
    task = TokenSequenceTask(model, tokenizer)
    outputs = model(**batch)
    features = task.features(model, outputs, batch, READS)
    losses = NgramSurrogate.cross_entropy(features)
    tokens = features["target_mask"].sum(1)
    torch.testing.assert_close((losses * tokens).sum() / tokens.sum(), outputs.loss)


def test_logits_without_labels_are_those_with_labels(toy_model, tokenizer, batch):
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
                 decoder_start_token_id=0)
    ).eval()  # fmt: skip
    torch.manual_seed(0)
    m2m = M2M100ForConditionalGeneration(
        M2M100Config(vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32,
                     decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2)
    ).eval()  # fmt: skip
    for model in (toy_model().eval(), t5, m2m, causal_model(tokenizer)):
        inputs = (
            batch
            if model.config.is_encoder_decoder
            else {"input_ids": batch["input_ids"], "labels": batch["input_ids"]}
        )
        without = TokenSequenceTask(model, tokenizer).without_labels(inputs)
        assert "labels" not in without
        outputs = model(**without)
        assert outputs.loss is None
        torch.testing.assert_close(outputs.logits, model(**inputs).logits)


def test_a_decoder_only_model_is_scored_on_the_tokens_after_its_prompt(tokenizer):
    model = causal_model(tokenizer)
    ids = torch.arange(3, 19).view(2, 8)
    labels = ids.clone()
    labels[:, :3] = -100
    inputs = {"input_ids": ids, "labels": labels}
    outputs = model(**inputs)
    features = TokenSequenceTask(model, tokenizer).features(model, outputs, inputs, READS)
    assert features["target_mask"].sum(1).tolist() == [5, 5]
    expected = outputs.logits.log_softmax(-1)[:, 2:7].gather(2, ids[:, 3:].unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(features["target_log_probs"][:, :5], expected)


def test_the_text_is_the_target_without_its_end(toy_model, tokenizer, batch):
    model = toy_model().eval()
    features = TokenSequenceTask(model, tokenizer).features(model, model(**batch), batch, READS)
    ends = batch["labels"].eq(tokenizer.eos_token_id).sum(1)
    assert ends.eq(1).all()
    assert features["text_mask"].sum(1).equal(features["target_mask"].sum(1) - ends)
    causal = causal_model(tokenizer)
    task, ids = TokenSequenceTask(causal, tokenizer), torch.tensor([[3, 4, 5, 6, 7, 8]])
    for ends, text in ((8, [1, 1, 1, 1, 0]), ([5, 8], [1, 0, 1, 1, 0]), (None, [1, 1, 1, 1, 1])):
        causal.generation_config.eos_token_id = ends  # the Trainer changes it, too, after the task is made
        inputs = {"input_ids": ids, "labels": ids}
        features = task.features(causal, causal(**inputs), inputs, READS)
        assert features["text_mask"].int().tolist() == [text]


def test_where_the_padding_is_does_not_matter(toy_model, tokenizer):
    logits = torch.randn(1, 6, len(tokenizer), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[5, 6, 7, 8, -100, -100]])
    task = TokenSequenceTask(toy_model(), tokenizer)
    right = task.features(None, SimpleNamespace(logits=logits), {"labels": labels}, READS)
    for shift in (1, 2):
        moved = task.features(
            None, SimpleNamespace(logits=logits.roll(shift, 1)), {"labels": labels.roll(shift, 1)}, READS
        )
        for name in READS:
            assert moved[name].equal(right[name])


def test_a_constant_added_to_all_logits_changes_nothing(tokenizer):
    logits = torch.randn(2, 5, len(tokenizer), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, -100, -100]])
    torch.testing.assert_close(
        target_log_probs(logits + 100, labels), target_log_probs(logits, labels), atol=1e-4, rtol=1e-4
    )


def test_extreme_logits_and_masked_vocabularies_give_finite_losses_and_gradients(tokenizer):
    logits = 1e4 * torch.randn(2, 5, len(tokenizer), generator=torch.Generator().manual_seed(0))
    logits[..., 20:] = float("-inf")
    logits.requires_grad_()
    labels = torch.tensor([[3, 4, 5, 6, 7], [8, 30, 10, -100, -100]])
    mask = labels != -100
    losses = NgramSurrogate()({"target_log_probs": target_log_probs(logits, labels), "target_mask": mask})
    losses.sum().backward()
    assert losses.isfinite().all()
    assert logits.grad.isfinite().all()


def test_forced_predictions_are_the_arg_max_at_the_labels(toy_model, tokenizer, batch):
    model = toy_model().eval()
    task = TokenSequenceTask(model, tokenizer)
    outputs = model(**batch)
    predictions = task.forced_predictions(outputs, batch, [Candidate(3)], range(5))
    assert len(predictions) == 5
    assert predictions.candidates.tolist() == [3] * 5
    row = batch["labels"][2]
    best = outputs.logits[2].argmax(-1)[row != -100]
    assert predictions.predictions[2] == tokenizer.decode(best, skip_special_tokens=True)
    assert predictions.references[2] == tokenizer.decode(row[row != -100], skip_special_tokens=True)


@pytest.mark.parametrize("improve", [True, False])
def test_a_corruption_swaps_the_target_with_its_rival_in_scores_and_prediction_alike(
    tokenizer, toy_model, improve, generator
):
    labels = torch.randint(3, len(tokenizer), (6, 9), generator=generator)
    logits = torch.randn(6, 9, len(tokenizer), generator=generator)
    logits[:3].scatter_add_(2, labels[:3].unsqueeze(2), torch.full((3, 9, 1), 9.0))  # right in the first three rows
    logits[3:].scatter_(2, labels[3:].unsqueeze(2), -9.0)  # and wrong in the others
    task = TokenSequenceTask(toy_model(), tokenizer)
    outputs, inputs = SimpleNamespace(logits=logits), {"labels": labels}
    plain = task.forced_predictions(outputs, inputs, [Candidate(0)], range(6))
    changed = task.forced_predictions(outputs, inputs, [Candidate(0, 1.0, improve)], range(6))
    first, second = logits.log_softmax(-1).topk(2).values.unbind(-1)
    kept, moved = (slice(0, 3), slice(3, 6)) if improve else (slice(3, 6), slice(0, 3))
    assert changed.candidates.tolist() == [-1] * 6
    assert changed.references == plain.references
    assert changed.predictions[kept] == plain.predictions[kept]
    torch.testing.assert_close(
        changed.features["target_log_probs"][moved], (first if improve else second)[moved], atol=1e-5, rtol=1e-5
    )
    if improve:
        assert changed.predictions == changed.references

    else:
        words = [[tokenizer.decode(token) for token in row] for row in logits.topk(2).indices[:3, :, 1]]
        assert [text.split() for text in changed.predictions[:3]] == [
            [word for word in row if not word.startswith("<")] for row in words
        ]


def test_a_corruption_of_an_example_does_not_depend_on_its_batch(toy_model, tokenizer, batch):
    model = toy_model().eval()
    task = TokenSequenceTask(model, tokenizer)
    corrupted = Candidate(0, 0.5, improve=True)
    whole = task.forced_predictions(model(**batch), batch, [corrupted], [7, 8, 9])
    padded = {name: torch.nn.functional.pad(value, (2, 0), value=-100) for name, value in batch.items()}
    logits = torch.nn.functional.pad(model(**batch).logits, (0, 0, 2, 0))
    last = {"labels": padded["labels"][2:3]}
    alone = task.forced_predictions(SimpleNamespace(logits=logits[2:3]), last, [corrupted], [9])
    own = task.forced_predictions(model(**batch), batch, [Candidate(0)], range(3))
    assert alone.predictions == whole.predictions[2:] != own.predictions[2:]
    torch.testing.assert_close(
        alone.features["target_log_probs"][:, :8], whole.features["target_log_probs"][2:, :8], atol=1e-5, rtol=0
    )


def test_corruptions_cover_their_range_evenly_and_in_both_directions():
    corrupted = [Candidate(number).corrupted() for number in range(8)]
    strengths = sorted(candidate.corruption for candidate in corrupted)
    assert strengths[0] < 0.15
    assert strengths[-1] > 0.65
    assert sum(candidate.improve for candidate in corrupted) == 4
    assert [candidate.id for candidate in corrupted] == [-1, -2, -3, -4, -5, -6, -7, -8]


def test_generated_predictions_are_the_models_greedy_output(toy_model, tokenizer, batch):
    model = toy_model().eval()
    predictions = TokenSequenceTask(model, tokenizer).generated_predictions(model, batch, Candidate(1), READS)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = model.generate(**inputs, max_new_tokens=batch["labels"].shape[1] + 8)
    assert predictions.predictions == tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert set(predictions.features) == {"target_log_probs", "target_mask", "text_mask"}


def test_own_prefix_scores_are_those_of_target_tokens_after_the_models_own_output(toy_model, tokenizer, batch):
    model = toy_model().eval()
    task = TokenSequenceTask(model, tokenizer)
    hypotheses = task.generate(model, batch, model(**batch))
    features = task.features(model, model(**batch), batch, PrefixNgramSurrogate.reads)
    log_probs = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], decoder_input_ids=hypotheses[:, :-1]
    ).logits.log_softmax(-1)
    position, target = 2, 1
    token = batch["labels"][4, target]
    torch.testing.assert_close(features["prefix_log_probs"][4, position, target], log_probs[4, position, token])
    for row, mask in zip(hypotheses[:, 1:], features["prefix_mask"], strict=True):
        ends = (row == tokenizer.eos_token_id).nonzero()
        assert mask.sum() == (ends[0] + 1 if len(ends) else len(row))


def test_equal_target_tokens_share_a_class(toy_model, tokenizer, batch):
    model = toy_model().eval()
    batch["labels"][0, :4] = torch.tensor([7, 8, 7, 8])
    features = TokenSequenceTask(model, tokenizer).features(model, model(**batch), batch, PrefixNgramSurrogate.reads)
    assert features["target_classes"][0, :4].tolist() == [0, 1, 0, 1]


def test_sampled_outputs_are_scored_by_the_model_and_by_sentence_bleu(warm_model, tokenizer, batch):
    model = warm_model().eval()
    torch.manual_seed(0)
    task = TokenSequenceTask(model, tokenizer)
    features = task.features(model, model(**batch), batch, MinimumRiskLoss.reads)
    log_probs, mask, bleu = (features[name] for name in MinimumRiskLoss.reads)

    torch.manual_seed(0)
    drawn = task.generate(model, batch, model(**batch), samples=7)[:, 1:].view(len(bleu), 7, -1)

    def to_the_end(ids):
        ids = [token for token in ids.tolist() if token != -100]
        return ids[: ids.index(tokenizer.eos_token_id) + 1] if tokenizer.eos_token_id in ids else ids

    ids, target = to_the_end(drawn[3, 2]), to_the_end(batch["labels"][3])
    inputs = {name: batch[name][3:4] for name in ("input_ids", "attention_mask")}
    before = torch.tensor([[model.config.decoder_start_token_id, *ids[:-1]]])
    scores = model(**inputs, decoder_input_ids=before).logits.log_softmax(-1)[0]
    torch.testing.assert_close(log_probs[3, 2], scores[range(len(ids)), ids].sum(), rtol=1e-4, atol=1e-4)
    hypothesis, reference = (tokenizer.decode(tokens, skip_special_tokens=True) for tokens in (ids, target))
    assert bleu[3, 2] == pytest.approx(BLEU(effective_order=True).sentence_score(hypothesis, [reference]).score / 100)
    for outputs, distinct in zip(drawn, mask.sum(1), strict=True):
        assert distinct == len({tuple(to_the_end(row)) for row in outputs})


def test_a_model_in_training_decodes_with_dropout_and_with_gradient_checkpointing(warm_model, tokenizer, batch):
    model = warm_model().eval()
    task = TokenSequenceTask(model, tokenizer)
    expected = task.generate(model, batch, model(**batch))
    model.gradient_checkpointing_enable()
    assert task.generate(model.train(), batch, model(**batch)).equal(expected)
    for module in model.modules():
        module.dropout = 0.5
    assert not task.generate(model, batch, model(**batch)).equal(expected)


@pytest.mark.parametrize("loss", [PrefixNgramSurrogate(), MinimumRiskLoss()])
def test_a_loss_on_the_models_own_output_trains_the_model(toy_model, tokenizer, batch, loss):
    model = toy_model()
    features = TokenSequenceTask(model, tokenizer).features(model, model(**batch), batch, loss.reads)
    loss(features).mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)


def test_a_decoder_only_model_cannot_be_read_on_its_own_output(tokenizer):
    model = causal_model(tokenizer)
    inputs = {"input_ids": torch.ones(1, 4, dtype=torch.long), "labels": torch.ones(1, 4, dtype=torch.long)}
    with pytest.raises(ValueError, match="surrogate_predictions='forced'"):
        TokenSequenceTask(model, tokenizer).generate(model, inputs, None)


def test_a_batch_without_labels_is_refused(toy_model, tokenizer):
    with pytest.raises(ValueError, match="no 'labels', only.*input_ids"):
        TokenSequenceTask(toy_model(), tokenizer).require_labels({"input_ids": torch.ones(1, 1)})


def test_a_model_that_generates_text_is_a_token_sequence_task(toy_model):
    assert task_for(toy_model()) is TokenSequenceTask
