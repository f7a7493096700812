"""Logits in half precision and at their extremes, from the model's output to the gradient that goes back to it."""

from types import SimpleNamespace

import pytest
import torch
import toy_questions
from one_step import SURROGATES, flat, make_llama, parts
from toy_translation import make_toy_data
from transformers import DataCollatorForSeq2Seq
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from reloss_hf import PrefixNgramSurrogate, ReLossTrainer, ReLossTrainingArguments
from reloss_hf.learning.store import PredictionStore
from reloss_hf.surrogate import surrogate_class
from reloss_hf.tasks import Candidate
from reloss_hf.tasks.question_answering.task import QuestionAnsweringTask
from reloss_hf.tasks.token_sequence.task import TokenSequenceTask

TOKENS = (
    "LogNgramSurrogate", "NgramSurrogate", "TransformerTokenSurrogate", "TokenCrossEntropy", "TokenErrorProbability",
)  # fmt: skip
SPANS = (
    "AnswersSurrogate",
    "SharpenedF1Surrogate",
    "OverlapSurrogate",
    "SpanSurrogateMLP",
    "ExpectedF1Loss",
    "SpanCrossEntropy",
)
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def extreme(*shape, dtype):
    """Logits of -1e4, 0 and 1e4."""
    return 1e4 * torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def check_gradient(name, features, *logits):
    torch.manual_seed(0)
    losses = surrogate_class(name)()(features)
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()
    (8 * losses.mean()).backward()  # as a loss scaler does
    assert all(part.grad.isfinite().all() and part.grad.dtype == part.dtype for part in logits)


@pytest.fixture
def sequences(tokenizer):
    """A task, labels, and logits in which entries of the vocabulary that are no target are masked by -inf."""

    def make(dtype):
        labels = torch.tensor([[0, 3, 4, 5, 6, 7], [0, 8, 9, 10, -100, -100]])
        logits = extreme(2, 6, len(tokenizer), dtype=dtype)
        logits[..., 20:] = float("-inf")
        return TokenSequenceTask(make_llama(tokenizer), tokenizer), logits, labels

    return make


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TOKENS)
def test_token_losses_and_gradients_are_finite(sequences, name, dtype):
    task, logits, labels = sequences(dtype)
    outputs = SimpleNamespace(logits=logits.requires_grad_())
    check_gradient(name, task.features(None, outputs, {"labels": labels}, ()), logits)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loss_of_the_own_output_and_its_gradient_are_finite(toy_model, tokenizer, dtype):
    model, inputs = toy_model(), DataCollatorForSeq2Seq(tokenizer)(list(make_toy_data(tokenizer, 2)))
    task, first = TokenSequenceTask(model, tokenizer), []

    def made_extreme(module, arguments, output):
        first.append(extreme(*output.logits.shape, dtype=dtype).requires_grad_())
        output.logits = first[-1]

    outputs = model(**inputs)
    hypotheses = task.generate(model, inputs, outputs)
    model.register_forward_hook(made_extreme)
    features = task.features(model, outputs, inputs, PrefixNgramSurrogate.reads, hypotheses)
    check_gradient("PrefixNgramSurrogate", features, *first)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPANS)
def test_span_losses_and_gradients_are_finite(name, dtype):
    tokenizer = toy_questions.make_tokenizer()
    ids = tokenizer(" which colours ?", "red green blue , dog cat", return_tensors="pt").input_ids.expand(2, -1)
    start, end = extreme(2, *ids.shape, dtype=dtype)
    start[:, -1] = end[:, -1] = float("-inf")  # the last token ends the window
    outputs = QuestionAnsweringModelOutput(start_logits=start.requires_grad_(), end_logits=end.requires_grad_())
    inputs = {"input_ids": ids, "start_positions": torch.tensor([5, 0]), "end_positions": torch.tensor([7, 0])}
    task = QuestionAnsweringTask(toy_questions.make_model(), tokenizer)
    check_gradient(name, task.features(None, outputs, inputs, ()), start, end)


def test_predictions_from_a_masked_vocabulary_are_kept_unless_a_target_is_masked(sequences):
    task, logits, labels = sequences(torch.float16)
    logits[1, 0, 8] = float("-inf")  # scores the target at position 1
    store = PredictionStore(10)
    for candidate in (Candidate(0), Candidate(0, 0.5), Candidate(0, 0.5, improve=True)):
        store.add(task.forced_predictions(SimpleNamespace(logits=logits), {"labels": labels}, [candidate], [0, 1]))
    assert set(store.predictions().references) == {task.processing_class.decode([3, 4, 5, 6, 7])}
    assert len(store) == store.skipped == 3


@pytest.mark.parametrize("kind", SURROGATES)
def test_a_float16_step_under_a_loss_scaler_is_the_step_of_float32(kind, tmp_path):
    trainer = ReLossTrainer(
        args=ReLossTrainingArguments(str(tmp_path), surrogate_start=0, report_to="none", use_cpu=True),
        surrogate=surrogate_class(SURROGATES[kind])(),
        **parts(kind),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    optimizer, scaler = torch.optim.SGD(trainer.model.parameters(), lr=1.0), torch.amp.GradScaler("cpu")
    before = flat(trainer.model)
    trainer.compute_loss(trainer.model, batch).backward()
    whole = flat_gradient(trainer.model)
    trainer.model.zero_grad()
    with torch.autocast("cpu", torch.float16):
        loss = trainer.compute_loss(trainer.model, batch)
    assert loss.dtype == torch.float32
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    step = before - flat(trainer.model)
    assert (step - whole).norm() < 0.02 * whole.norm()


def flat_gradient(model):
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()]
    )
