import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import logsigmoid

from reloss_hf import (
    DraftSurrogate,
    LogNgramSurrogate,
    MinimumRiskLoss,
    NgramSurrogate,
    OwnOutputSurrogate,
    PrefixNgramSurrogate,
    SurrogateLoss,
    TokenCrossEntropy,
    TokenErrorProbability,
    TokenSurrogate,
    TransformerTokenSurrogate,
    gradient_penalty,
)

HAND_MADE = [TokenCrossEntropy, TokenErrorProbability]
NGRAMS = [NgramSurrogate, LogNgramSurrogate, PrefixNgramSurrogate, OwnOutputSurrogate, DraftSurrogate]
TABLES = ("prefix_log_probs", "draft_log_probs")
ALL = [*HAND_MADE, *NGRAMS, TransformerTokenSurrogate]
MONOTONE = [*HAND_MADE, *NGRAMS]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def token_features(n=6, length=9, seed=0):
    """Random scores of targets of different lengths, the last of them empty; output as long as the target."""
    lengths = torch.tensor([length - i for i in range(n - 1)] + [0])
    mask = torch.arange(length) < lengths.unsqueeze(1)
    log_probs = logsigmoid(2 * draw(n, length, seed=seed)).masked_fill(~mask, 0)
    return {
        "target_log_probs": log_probs,
        "target_mask": mask,
        "text_mask": mask & (torch.arange(length) < lengths.unsqueeze(1) - 1),
        "target_classes": torch.arange(length).expand(n, length).to(torch.int16),
        "prefix_log_probs": logsigmoid(2 * draw(n, length, length, seed=seed + 1)),
        "prefix_mask": mask,
        "draft_log_probs": logsigmoid(2 * draw(n, length, length, seed=seed + 2)),
    }


def build(cls):
    torch.manual_seed(0)
    return cls()


@pytest.mark.parametrize("cls", ALL)
def test_a_loss_has_one_float32_value_for_each_example_whatever_the_input_type(cls):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        features = token_features()
        for name in ("target_log_probs", *TABLES):
            features[name] = features[name].to(dtype)
        losses = build(cls)(features)
        assert losses.shape == (6,)
        assert losses.dtype == torch.float32
        assert losses.isfinite().all()


@pytest.mark.parametrize("cls", ALL)
def test_an_empty_target_costs_nothing_and_has_no_gradient(cls):
    features = token_features()
    name = cls.reads[0]
    features[name].requires_grad_()
    losses = build(cls)(features)
    losses.sum().backward()
    assert losses[-1] == 0
    assert features[name].grad[-1].eq(0).all()
    assert losses[:-1].ne(0).all()


@pytest.mark.parametrize("cls", ALL)
def test_padding_at_the_end_changes_nothing(cls):
    features, surrogate = token_features(), build(cls)
    padded = {
        name: torch.nn.functional.pad(value, (0, 3, 0, 3) if name in TABLES else (0, 3))
        for name, value in features.items()
    }
    torch.testing.assert_close(surrogate(padded), surrogate(features))


@pytest.mark.parametrize("cls", ALL)
def test_losses_are_finite_at_extreme_scores(cls):
    for value in (0.0, -1e4, float("-inf")):
        if cls is TokenCrossEntropy and value == float("-inf"):
            continue
        features = token_features()
        name = cls.reads[0]
        features[name] = torch.full_like(features[name], value).requires_grad_()
        losses = build(cls)(features)
        losses.sum().backward()
        assert losses.isfinite().all()
        assert features[name].grad.isfinite().all()


@pytest.mark.parametrize("cls", MONOTONE)
def test_a_monotone_loss_never_rewards_a_lower_target_probability(cls):
    for seed in range(5):
        features = token_features(seed=seed)
        name = cls.reads[0]
        features[name].requires_grad_()
        build(cls)(features).sum().backward()
        assert features[name].grad.max() <= 0


@pytest.mark.parametrize(
    ("cls", "matters"),
    [
        (TransformerTokenSurrogate, True),
        (NgramSurrogate, True),
        (LogNgramSurrogate, True),
        (TokenErrorProbability, False),
    ],
)
def test_the_order_of_tokens_matters_to_the_papers_surrogate_and_to_n_grams(cls, matters):
    features = {name: value[:1] for name, value in token_features().items() if name in TokenSurrogate.reads}
    order = torch.tensor([0, 2, 4, 6, 8, 1, 3, 5, 7])
    shuffled = features | {"target_log_probs": features["target_log_probs"][:, order]}
    surrogate = build(cls)
    assert torch.allclose(surrogate(features), surrogate(shuffled), atol=1e-5) is not matters


@pytest.mark.parametrize("cls", [NgramSurrogate, LogNgramSurrogate])
def test_the_n_gram_match_is_what_its_formula_says(cls):
    surrogate = cls(max_order=3)
    with torch.no_grad():
        surrogate.sharpness.fill_(1.3)
        surrogate.order_logits.copy_(torch.tensor([0.1, -0.4, 0.7]))
    features = token_features(n=4, length=6)
    a = torch.nn.functional.softplus(torch.tensor(1.3))
    for i, length in enumerate((6, 5, 4)):
        p = features["target_log_probs"][i, :length].exp()
        q = p**a / (p**a + (1 - p) ** a)
        matches = [torch.stack([q[t : t + n].prod() for t in range(length - n + 1)]) for n in (1, 2, 3)]
        floor = torch.tensor(-3.0).exp()
        if cls is NgramSurrogate:
            costs = [1 - match for match in matches]
        else:
            costs = [-((match + floor) / (1 + floor)).log() for match in matches]
        values = torch.stack([cost.mean() for cost in costs])
        expected = (surrogate.order_logits.softmax(0) * values).sum()
        torch.testing.assert_close(surrogate(features)[i], expected)


def test_a_batch_counts_tokens_as_the_cross_entropy_of_the_trainer_does():
    features = token_features(n=3, length=6)
    log_probs, mask = features["target_log_probs"], features["target_mask"]
    torch.testing.assert_close(TokenCrossEntropy().batch_loss(features), -log_probs[mask].mean())
    torch.testing.assert_close(TokenErrorProbability().batch_loss(features), 1 - log_probs[mask].exp().mean())
    empty = features | {"target_mask": torch.zeros_like(mask)}
    assert TokenCrossEntropy().batch_loss(empty) == 0


def test_n_grams_that_a_short_target_does_not_have_carry_no_weight():
    features = {"target_log_probs": torch.zeros(1, 2), "target_mask": torch.ones(1, 2, dtype=torch.bool)}
    assert NgramSurrogate()(features).item() == pytest.approx(0, abs=1e-3)


def certain_scores(hypothesis, target):
    """Log-probabilities of a model that is certain of every token of its own output."""
    equal = torch.tensor(hypothesis).unsqueeze(1) == torch.tensor(target).unsqueeze(0)
    return torch.where(equal, -1e-6, -30.0).unsqueeze(0)


@pytest.mark.parametrize(
    ("hypothesis", "target"),
    [([1, 2, 3, 4], [1, 2, 3, 4]), ([3, 4, 1, 2], [1, 2, 3, 4]), ([1, 1, 1], [1, 2, 1, 3]), ([1, 2], [1, 2, 1, 2])],
)
def test_of_a_certain_model_the_own_prefix_match_counts_clipped_n_grams(hypothesis, target):
    surrogate = PrefixNgramSurrogate(max_order=2)
    classes = torch.tensor([[target.index(token) for token in target]])
    features = {
        "prefix_log_probs": certain_scores(hypothesis, target),
        "prefix_mask": torch.ones(1, len(hypothesis), dtype=torch.bool),
        "target_classes": classes,
        "text_mask": torch.ones(1, len(target), dtype=torch.bool),
    }
    expected = 1.0
    for n in (1, 2):
        found = [tuple(hypothesis[i : i + n]) for i in range(len(hypothesis) - n + 1)]
        wanted = [tuple(target[i : i + n]) for i in range(len(target) - n + 1)]
        matched = sum(min(found.count(gram), wanted.count(gram)) for gram in set(wanted))
        expected -= 0.5 * (0.5 * matched / len(found) + 0.5 * matched / len(wanted))
    assert surrogate(features).item() == pytest.approx(expected, abs=1e-4)


def test_the_loss_on_the_own_output_is_that_and_the_loss_after_the_target():
    features, surrogate = token_features(), OwnOutputSurrogate(max_order=2)
    parts = PrefixNgramSurrogate(max_order=2)(features) + NgramSurrogate(max_order=2)(features)
    torch.testing.assert_close(surrogate(features), parts)


def test_the_loss_on_a_draft_reads_all_scores_after_it():
    features, surrogate = token_features(), DraftSurrogate(max_order=2)
    after = features["draft_log_probs"]
    places = {"target_log_probs": after.diagonal(dim1=1, dim2=2)}
    as_output = features | places | {"prefix_log_probs": after, "prefix_mask": features["text_mask"]}
    torch.testing.assert_close(surrogate(features), OwnOutputSurrogate(max_order=2)(as_output))
    torch.testing.assert_close(surrogate.cross_entropy(features), TokenCrossEntropy()(features))


def test_minimum_risk_is_the_expectation_over_outputs_that_differ():
    features = {
        "sample_log_probs": torch.tensor([[0.3, 0.3, 0.5, 0.2]]).log(),
        "sample_mask": torch.tensor([[True, False, True, True]]),
        "sample_bleu": torch.tensor([[0.2, 0.2, 0.6, 1.0]]),
    }
    assert MinimumRiskLoss(sharpness=1.0)(features).item() == pytest.approx(0.3 * 0.8 + 0.5 * 0.4)
    weights = [p**0.5 for p in (0.3, 0.5, 0.2)]
    expected = (weights[0] * 0.8 + weights[1] * 0.4) / sum(weights)
    assert MinimumRiskLoss(sharpness=0.5)(features).item() == pytest.approx(expected)


@pytest.mark.parametrize("cls", ALL)
def test_every_loss_allows_the_gradient_penalty(cls):
    features, surrogate = token_features(), build(cls)
    name = cls.reads[0]
    features[name].requires_grad_()
    gradient_penalty(surrogate(features), features[name]).backward()
    gradients = [p.grad for p in surrogate.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("cls", ALL)
def test_logits_and_log_probabilities_are_each_others_inverse(cls):
    log_probs = torch.tensor([-20.0, -1.0, -1e-3])
    torch.testing.assert_close(cls.from_logits(cls.to_logits(log_probs)), log_probs)


def test_a_missing_feature_is_named():
    with pytest.raises(ValueError, match=r"NgramSurrogate reads \['target_mask'\]"):
        NgramSurrogate()({"target_log_probs": torch.zeros(1, 1)})


@pytest.mark.parametrize("cls", ALL)
def test_saved_and_loaded_it_gives_the_same_losses_bit_for_bit(cls, tmp_path):
    surrogate = build(cls)
    surrogate.info = {"metric": "bleu"}
    surrogate.save_pretrained(tmp_path)
    loaded = SurrogateLoss.from_pretrained(tmp_path)
    assert type(loaded) is cls
    assert loaded.config == surrogate.config
    assert loaded.info == {"metric": "bleu"}
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded(token_features()).equal(surrogate.eval().requires_grad_(False)(token_features()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder, edit):
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda folder: edit_config(folder, surrogate_class="Nonesuch"), r"no surrogate 'Nonesuch'.*NgramSurrogate"),
        (lambda folder: edit_config(folder, format_version=99), "format 99, newer than 1: upgrade"),
        (lambda folder: edit_config(folder, library_name="timm"), "holds no surrogate"),
        (lambda folder: edit_weights(folder, lambda w: w.pop("sharpness")), r"sharpness is None, should be \(\)"),
        (
            lambda folder: edit_weights(folder, lambda w: w.update(more=torch.ones(2))),
            r"more is \(2,\), should be None",
        ),
        (lambda folder: edit_config(folder, config={"max_order": 2}), r"order_logits is \(4,\), should be \(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused_when_loaded(tmp_path, edit, message):
    NgramSurrogate().save_pretrained(tmp_path)
    edit(tmp_path)
    with pytest.raises(ValueError, match=message):
        SurrogateLoss.from_pretrained(tmp_path)


def test_an_unknown_configuration_key_is_warned_about(tmp_path):
    NgramSurrogate().save_pretrained(tmp_path)
    edit_config(tmp_path, config={"max_order": 4, "colour": "red"})
    with pytest.warns(UserWarning, match="colour"):
        SurrogateLoss.from_pretrained(tmp_path)


def test_a_class_loads_only_its_own_kind(tmp_path):
    NgramSurrogate().save_pretrained(tmp_path)
    assert isinstance(TokenSurrogate.from_pretrained(tmp_path), NgramSurrogate)
    with pytest.raises(ValueError, match="NgramSurrogate is not a PrefixNgramSurrogate"):
        PrefixNgramSurrogate.from_pretrained(tmp_path)
