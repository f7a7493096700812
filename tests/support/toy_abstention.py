"""Toy reading comprehension in which some questions have no answer."""

import functools

import datasets
import torch
from forced import Forced
from toy_questions import make_examples, make_model, make_tokenizer
from toy_training import learning_less

from reloss_hf import Predictions, ReLossTrainingArguments, prepare_features

TOKENIZER = make_tokenizer()


def make_features(count, seed=0, unanswerable=0.4, length=64, **changes):
    datasets.disable_progress_bars()
    return prepare_features(make_examples(count, seed, unanswerable, **changes), TOKENIZER, length, 3)


@functools.cache
def warm_weights():
    """Weights of a model that has learned a little of when to abstain."""
    model, rows = make_model(), make_features(600, seed=9)
    rows = rows.select_columns(["input_ids", "token_type_ids", "attention_mask", "start_positions", "end_positions"])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for chosen in torch.arange(600).repeat(5).split(30):
        model(**TOKENIZER.pad([rows[row] for row in chosen.tolist()], return_tensors="pt")).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def warm_model():
    model = make_model()
    model.load_state_dict(warm_weights())
    return model


def make_trainer(folder, train=None, model=None, cls=Forced, arguments=None, **keywords):
    """8 steps from a warm start, on a surrogate from step 4 on."""
    settings = {
        "output_dir": str(folder),
        "max_steps": 8,
        "surrogate_start": 0.5,
        "surrogate_learn_again": 0,
        "surrogate_held_out_share": 0.3,
        "per_device_train_batch_size": 32,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    trainer = cls(
        model=model or warm_model(),
        args=ReLossTrainingArguments(**settings | (arguments or {})),
        train_dataset=make_features(200) if train is None else train,
        processing_class=TOKENIZER,
        **keywords,
    )
    return learning_less(trainer)


def drawn(count=600, seed=0, offset=0.0, length=12):
    """Features and references of questions by a model that knows the probabilities, but for an offset of the null
    position: the first one. A span has one token."""
    draw = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(count, length, generator=draw)
    logits[:, 0] += 2
    gold = torch.multinomial(logits.softmax(1), 1, generator=draw)
    null = torch.zeros(count, length, dtype=torch.bool)
    null[:, 0] = True
    log_probs = (logits + offset * null).log_softmax(1)
    return {
        "start_log_probs": log_probs,
        "end_log_probs": log_probs.clone(),
        "position_mask": torch.ones_like(null),
        "context_mask": ~null,
        "null_mask": null,
        "gold_spans": gold.unsqueeze(2).expand(-1, -1, 2).contiguous(),
    }


def as_predictions(features):
    """Predictions of such questions, in which each position has a word of its own."""
    from reloss_hf.tasks.functional import as_bytes
    from reloss_hf.tasks.question_answering.task import QuestionAnsweringTask

    count, length = features["null_mask"].shape
    spans = torch.arange(1, length).view(1, -1, 1).expand(count, -1, 2).contiguous()
    texts = as_bytes([f"w{place}" for place in range(1, length)]).unsqueeze(0).repeat(count, 1, 1)
    names = [f"q{number}" for number in range(count)]
    features = features | {"spans": spans, "span_texts": texts, "window_ids": as_bytes(names)}
    golds = features["gold_spans"][:, 0, 0].tolist()
    references = [
        {"id": name, "answers": {"text": [f"w{gold}"] if gold else [], "answer_start": [gold] if gold else []}}
        for name, gold in zip(names, golds, strict=True)
    ]
    decoded = QuestionAnsweringTask.decode(features, ()).tolist()
    return Predictions(features, decoded, references, torch.zeros(count, dtype=torch.long))
