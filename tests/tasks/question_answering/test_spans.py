"""Losses on spans."""

import itertools

import pytest
import torch
from torch.nn.functional import pad

from reloss_hf import (
    AnswersCrossEntropy,
    AnswersSurrogate,
    ExpectedF1Loss,
    OverlapSurrogate,
    Predictions,
    SharpenedF1Surrogate,
    SpanCrossEntropy,
    SpanSurrogateMLP,
    SurrogateLoss,
    gradient_penalty,
)
from reloss_hf.diagnosis.weights import weight_curve
from reloss_hf.tasks.question_answering.spans import best_spans

LOSSES = (
    SpanCrossEntropy,
    AnswersCrossEntropy,
    AnswersSurrogate,
    ExpectedF1Loss,
    SpanSurrogateMLP,
    OverlapSurrogate,
    SharpenedF1Surrogate,
)
CONTEXT = slice(4, 17)  # of 18 positions: null, three of the question, the context, a separator


def make_features(start_logits, end_logits, spans):
    """One gold answer a row."""
    n, length = start_logits.shape
    context, null = torch.zeros(n, length, dtype=torch.bool), torch.zeros(n, length, dtype=torch.bool)
    context[:, CONTEXT] = True
    null[:, 0] = True
    return {
        "start_log_probs": start_logits.log_softmax(1),
        "end_log_probs": end_logits.log_softmax(1),
        "position_mask": torch.ones_like(context),
        "context_mask": context,
        "null_mask": null,
        "gold_spans": torch.tensor(spans).unsqueeze(1),
    }


def random_features(n=12, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    start, end = scale * torch.randn(2, n, 18, generator=generator)
    spans = [(0, 0), (4, 4), (16, 16), (4, 16), (7, 9), (10, 10)] * n
    return make_features(start, end, spans[:n])


@pytest.fixture(params=LOSSES, ids=lambda c: c.__name__)
def loss(request):
    torch.manual_seed(0)
    return request.param()


def naive_expected_f1(start, end, span, width):
    """Every pair of positions, one by one, and the F1 of the two sets of tokens."""
    gold = set(range(span[0], span[1] + 1))
    total = float(start[0] * end[0]) if span == (0, 0) else 0.0
    context = range(CONTEXT.start, CONTEXT.stop)
    for s, e in itertools.product(context, context):
        if span != (0, 0) and s <= e < s + width:
            tokens = set(range(s, e + 1))
            total += float(start[s] * end[e]) * 2 * len(tokens & gold) / (len(tokens) + len(gold))
    return 1 - total


@pytest.mark.parametrize("width", [1, 3, 30])
def test_expected_f1_equals_the_sum_over_all_pairs(width):
    features = random_features()
    start, end = features["start_log_probs"].exp(), features["end_log_probs"].exp()
    naive = [
        naive_expected_f1(start[i], end[i], tuple(span), width)
        for i, span in enumerate(features["gold_spans"][:, 0].tolist())
    ]
    torch.testing.assert_close(ExpectedF1Loss(width)(features), torch.tensor(naive))


def test_memory_of_expected_f1_does_not_depend_on_the_length_of_the_window():
    largest = []
    for length in (512, 4096):
        logits = torch.randn(2, length, requires_grad=True)
        features = make_features(logits, logits, [(7, 9), (4, 8)])
        features["context_mask"][:, 4:-1] = True
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            ExpectedF1Loss()(features).sum().backward()
        largest.append(max(size for size in sizes))
    assert largest[1] == max(largest[0], 2 * 4096)


@pytest.mark.parametrize("sharpness", [0.7, 1.0, 3.0])
def test_sharpened_f1_equals_the_sum_over_all_spans_that_are_decoded_from(sharpness):
    features, width = random_features(), 5
    surrogate = SharpenedF1Surrogate(width)
    torch.nn.init.constant_(surrogate.sharpness, torch.tensor(sharpness).expm1().log())
    start, end = (features[name].exp() ** sharpness for name in ("start_log_probs", "end_log_probs"))
    context = range(CONTEXT.start, CONTEXT.stop)
    pairs = [(0, 0), *((s, e) for s in context for e in context if s <= e < s + width)]
    naive = []
    for i, span in enumerate(features["gold_spans"][:, 0].tolist()):
        scale = sum(start[i, s] * end[i, e] for s, e in pairs) ** -0.5
        naive.append(naive_expected_f1(start[i] * scale, end[i] * scale, tuple(span), width))
    torch.testing.assert_close(surrogate(features), torch.tensor(naive))


def test_very_sharp_f1_is_the_f1_of_the_decoded_span():
    features = random_features(n=60)
    surrogate = SharpenedF1Surrogate()
    torch.nn.init.constant_(surrogate.sharpness, 1e4)
    start, end = features["start_log_probs"], features["end_log_probs"]
    spans, scores = best_spans(start, end, features["context_mask"])
    spans[start[:, 0] + end[:, 0] > scores] = 0
    hot = torch.nn.functional.one_hot(spans, 18)
    hard = [
        naive_expected_f1(*hot[i].float(), tuple(s), 30) for i, s in enumerate(features["gold_spans"][:, 0].tolist())
    ]
    torch.testing.assert_close(surrogate(features), torch.tensor(hard))


def test_one_value_for_each_example_whatever_is_added_to_its_logits(loss):
    features = random_features()
    shifted = make_features(
        features["start_log_probs"] + 7, features["end_log_probs"] - 300, features["gold_spans"][:, 0].tolist()
    )
    values = loss(features)
    assert values.shape == (12,) and values.dtype == torch.float32
    torch.testing.assert_close(loss(shifted), values, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loss({k: v[3:4] for k, v in features.items()}), values[3:4])


def test_positions_that_only_pad_a_batch_change_nothing(loss):
    features = random_features()
    padded = {
        name: value if name == "gold_spans" else torch.nn.functional.pad(value, (0, 5))
        for name, value in features.items()
    }
    torch.testing.assert_close(loss(padded), loss(features))


@pytest.mark.parametrize("extreme", [1e4, -1e4, float("-inf")])
def test_loss_and_both_gradients_are_finite_at_extreme_logits(loss, extreme):
    start, end = torch.randn(2, 6, 18, generator=torch.Generator().manual_seed(1))
    start[:, 5], end[:, 8], start[:, 12], end[:, 0] = extreme, extreme, extreme, extreme
    start.requires_grad_(), end.requires_grad_()
    values = loss(make_features(start, end, [(0, 0), (5, 8), (5, 5), (12, 14), (8, 8), (6, 16)]))
    assert values.isfinite().all()
    (values.sum() + gradient_penalty(values, (start, end))).backward()
    gradients = [start.grad, end.grad, *(p.grad for p in loss.parameters() if p.grad is not None)]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_gradient_agrees_with_finite_differences(loss):
    torch.manual_seed(0)
    loss = loss.double()
    start, end = torch.randn(2, 3, 18, dtype=torch.float64)
    start.requires_grad_(), end.requires_grad_()

    def score(start, end):
        return loss.score(make_features(start, end, [(0, 0), (7, 9), (4, 4)]))

    assert torch.autograd.gradcheck(score, (start, end))
    assert torch.autograd.gradgradcheck(score, (start, end))


@pytest.mark.parametrize("best", [1e-3, 0.3, 1.0, 20.0])
def test_answers_count_as_often_as_they_are_given_and_the_null_position_fills_up(best):
    features = random_features(n=3)
    features["gold_spans"] = torch.tensor([[(4, 5), (4, 5), (7, 9)], [(10, 12), (0, 0), (0, 0)], [(0, 0)] * 3])
    answers = [[(4, 5), (4, 5), (7, 9)], [(10, 12)], [(0, 0)]]
    surrogate = AnswersSurrogate()
    torch.nn.init.constant_(surrogate.best, torch.tensor(best).expm1().log())
    log_probs = [
        torch.tensor([(features["start_log_probs"][row, s] + features["end_log_probs"][row, e]) / 2 for s, e in spans])
        for row, spans in enumerate(answers)
    ]
    means = torch.stack([-values.mean() for values in log_probs])
    torch.testing.assert_close(AnswersCrossEntropy()(features), means)
    powers = torch.stack([-(best * values.double()).exp().mean().log().float() / best for values in log_probs])
    torch.testing.assert_close(surrogate(features).detach(), powers, atol=1e-3, rtol=1e-3)
    if best < 0.01:
        torch.testing.assert_close(powers, means, atol=0.02, rtol=0.01)


@pytest.mark.parametrize("loss", [SpanCrossEntropy, AnswersCrossEntropy, ExpectedF1Loss, SpanSurrogateMLP])
def test_moving_probability_from_any_position_to_the_gold_one_never_raises_the_loss(loss):
    loss = loss()
    for seed in range(5):
        features = random_features(n=60, scale=1 + 2 * seed, seed=seed)
        for name, gold in zip(("start_log_probs", "end_log_probs"), features["gold_spans"][:, 0].T, strict=True):
            before = features[name].exp()
            for position in range(18):
                moved = before.clone()
                moved[:, position] *= 0.5
                moved.scatter_add_(1, gold[:, None], (before - moved)[:, position : position + 1])
                assert (loss(features | {name: moved.log()}) <= loss(features) + 1e-6).all()


def test_moving_probability_from_a_disjoint_span_to_the_gold_span_never_raises_the_loss(loss):
    gold, spans = (8, 10), [(4, 6), (5, 5), (11, 12), (14, 16), (0, 0)]
    if hasattr(loss, "sharpness"):
        torch.nn.init.constant_(loss.sharpness, 4.0)
    for first, last in spans:
        shares = torch.linspace(0, 1, 41)[:, None]
        start, end = torch.zeros(2, 41, 18)
        start[:, [first, gold[0]]] = end[:, [last, gold[1]]] = torch.cat([1 - shares, shares], 1)
        values = loss(make_features(start.log(), end.log(), [gold] * 41)).detach()
        assert (values.diff() <= 1e-6).all() and values[-1] < values[0]


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("loss", [OverlapSurrogate, SharpenedF1Surrogate])
def test_so_it_is_whatever_the_probabilities_of_other_spans(loss, sharpness):
    loss = loss(max_answer_length=1)  # with spans of one token, any probabilities of spans can be had
    torch.nn.init.constant_(loss.sharpness, sharpness)
    spans = [0, *range(CONTEXT.start, CONTEXT.stop)]
    for seed, gold in enumerate((0, 4, 9, 16)):
        before = torch.zeros(1, 18)
        before[0, spans] = torch.randn(14, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(0)
        for other in set(spans) - {gold}:
            shares = torch.linspace(0, 1, 21)[:, None] * before[:, other]
            moved = before.repeat(21, 1)
            moved[:, other : other + 1] -= shares
            moved[:, gold : gold + 1] += shares
            values = loss(make_features(moved.log(), torch.zeros(21, 18), [(gold, gold)] * 21)).detach()
            assert (values.diff() <= 1e-6).all()


def test_null_answer_is_rewarded_where_there_is_no_answer_and_only_there(loss):
    start = end = torch.zeros(2, 18)
    start = start.clone()
    start[:, 0] = 4
    spans = [(0, 0), (7, 9)]
    flat, null = (loss(make_features(x, x, spans)) for x in (end, start))
    assert null[0] < flat[0] and null[1] > flat[1]


def test_surrogate_comes_back_from_disk_as_it_was(loss, tmp_path):
    features = random_features()
    loss.save_pretrained(tmp_path)
    loaded = SurrogateLoss.from_pretrained(tmp_path)
    assert type(loaded) is type(loss) and torch.equal(loaded(features), loss(features))


def test_best_span_is_the_best_of_all_pairs():
    start, end = torch.randn(2, 50, 18, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(50, 18, dtype=torch.bool)
    mask[:, CONTEXT] = True
    found, scores = best_spans(start, end, mask, 4)
    for i in range(50):
        pairs = [(s, e) for s in range(4, 17) for e in range(s, min(s + 4, 17))]
        best = max(pairs, key=lambda pair: start[i, pair[0]] + end[i, pair[1]])
        assert tuple(found[i].tolist()) == best
        assert scores[i] == start[i, best[0]] + end[i, best[1]]


def test_weights_of_spans_are_measured_over_the_positions_of_the_window():
    draw = torch.Generator().manual_seed(0)
    scores = {name: torch.randn(60, 9, generator=draw).log_softmax(-1) for name in ("start_log_probs", "end_log_probs")}
    gold = torch.randint(0, 9, (60, 2), generator=draw).sort(1).values
    window = torch.ones(60, 9, dtype=torch.bool)
    spans = scores | {
        "position_mask": window, "context_mask": window, "null_mask": torch.zeros_like(window),
        "gold_spans": gold.unsqueeze(1),
    }  # fmt: skip
    padded = {name: value if name == "gold_spans" else pad(value, (0, 5)) for name, value in spans.items()}
    texts = [{"prediction_text": str(i)} for i in range(60)]
    found = [
        weight_curve(loss(), Predictions(features, texts, texts, torch.zeros(60, dtype=torch.long)))
        for features in (spans, padded)
        for loss in (SpanCrossEntropy, ExpectedF1Loss)
    ]
    assert found[2].median.allclose(torch.ones(24), atol=1e-4)
    assert found[3].median.allclose(found[1].median, atol=1e-4)
    assert found[3].probability.allclose(found[1].probability, atol=1e-5)
    assert found[3].rewards_lower == 0
