"""A training short enough for a test, on the toy translation."""

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from reloss_hf import (
    ReLossSeq2SeqTrainer,
    ReLossSeq2SeqTrainingArguments,
    ReLossTrainer,
    ReLossTrainingArguments,
    TokenSurrogate,
)
from reloss_hf.learning.candidates import CandidateLearner


def last_word_accuracy(predictions, references):
    """Cross-entropy, which minds all words alike, cannot order this."""
    pairs = zip(predictions, references, strict=True)
    return sum(p.split()[-1:] == r.split()[-1:] for p, r in pairs) / len(references)


class LastTokensSurrogate(TokenSurrogate):
    """A surrogate as a user may write one: the sharpened error probability of a target's last two tokens."""

    def __init__(self):
        super().__init__()
        self.sharpness = nn.Parameter(torch.zeros(()))

    def score(self, features):
        log_probs, mask = features["target_log_probs"], features["target_mask"]
        rows = torch.arange(len(mask), device=mask.device)
        chosen = torch.stack([log_probs[rows, (mask.sum(1) - k).clamp(min=0)] for k in (1, 2)])
        return 1 - (softplus(self.sharpness) * chosen.sum(0)).exp() * mask.any(1)


def learning_less(trainer, groups=512, steps=100, sets=8, candidates=24):
    """The trainer, which learns from fewer groups or sets in fewer steps, if it learns at all: enough for toys."""
    learner = trainer.learner
    if isinstance(learner, CandidateLearner):
        learner.sets, learner.candidates, learner.steps = sets, candidates, steps
    elif learner is not None:
        learner.groups, learner.steps = groups, steps
    return trainer


@pytest.fixture
def build(warm_model, toy_data, tokenizer, collator, tmp_path):
    """A ReLoss trainer of 30 steps, to learn from step 20 on, unless told otherwise."""

    def make(cls=ReLossSeq2SeqTrainer, train=640, model=None, trainer=None, **changes):
        kind = ReLossTrainingArguments if cls is ReLossTrainer else ReLossSeq2SeqTrainingArguments
        settings = {
            "output_dir": str(tmp_path / "out"),
            "max_steps": 30,
            "surrogate_start": 20,
            "surrogate_snapshots": 4,
            "surrogate_snapshot_size": 128,
            "surrogate_group_size": 4,
            "surrogate_class": "LastTokensSurrogate",
            "per_device_train_batch_size": 32,
            "learning_rate": 3e-3,
            "logging_steps": 5,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
        }
        arguments = {
            "train_dataset": toy_data(train) if isinstance(train, int) else train,
            "eval_dataset": toy_data(96, seed=1),
            "processing_class": tokenizer,
            "data_collator": collator,
            "metric": last_word_accuracy,
        }
        args = kind(**settings | changes)
        return learning_less(cls(model=model or warm_model(), args=args, **arguments | (trainer or {})))

    return make


def history(trainer, name):
    return {entry["step"]: entry[name] for entry in trainer.state.log_history if name in entry}


def final_weights(trainer):
    trainer.train()
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
