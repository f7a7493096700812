"""Toy classification: rows of words whose mean embedding tells the class, of which some are rare."""

import datasets
import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from toy_training import learning_less
from transformers import BertConfig, BertForSequenceClassification

from reloss_hf import ReLossTrainer, ReLossTrainingArguments

CLASSES, WORDS, LENGTH = 4, 40, 8


def recall_of_rare(predictions, references):
    """What cross-entropy orders badly: how many of the rare labels are found, whatever else is predicted."""
    predictions, references = np.asarray(predictions)[..., 1:], np.asarray(references)[..., 1:]
    return (predictions & references).sum() / max(references.sum(), 1)


def make_rows(count, seed=0, several=False, imbalance=1.0):
    """`labels` is a class of four, the later the rarer, or 0/1 for each of four labels."""
    draw, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(99)
    words = torch.randint(0, WORDS, (count, LENGTH), generator=draw)
    scores = 4 * torch.randn(WORDS, CLASSES, generator=fixed)[words].mean(1)
    scores = scores + 0.7 * torch.randn(scores.shape, generator=draw) - imbalance * torch.arange(CLASSES)
    labels = (scores > 0).long() if several else scores.argmax(1)
    return datasets.Dataset.from_dict({"input_ids": words.tolist(), "labels": labels.tolist()})


def make_model(seed=0, classes=CLASSES, **changes):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=LENGTH,
        num_labels=classes,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **changes,
    )
    return BertForSequenceClassification(config)


class Bag(nn.Module):
    """A module of one's own, of which transformers knows nothing: the mean of embeddings, and a linear head."""

    def __init__(self, several=False):
        super().__init__()
        torch.manual_seed(0)
        self.several, self.embed, self.head = several, nn.Embedding(WORDS, 8), nn.Linear(8, CLASSES)

    def forward(self, input_ids, labels=None):
        logits = self.head(self.embed(input_ids).mean(1))
        if labels is None:
            return {"logits": logits}
        loss = binary_cross_entropy_with_logits if self.several else cross_entropy
        return {"loss": loss(logits, labels), "logits": logits}


def make_trainer(folder, train=None, model=None, cls=ReLossTrainer, arguments=None, several=False, **keywords):
    """60 steps, on a surrogate from step 30 on."""
    settings = {
        "output_dir": str(folder),
        "max_steps": 60,
        "surrogate_start": 0.5,
        "per_device_train_batch_size": 32,
        "learning_rate": 3e-2,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    if several and model is None:
        model = make_model(problem_type="multi_label_classification")
    trainer = cls(
        model=model or make_model(),
        args=ReLossTrainingArguments(**settings | (arguments or {})),
        train_dataset=make_rows(1200, several=several) if train is None else train,
        **keywords,
    )
    return learning_less(trainer)


def weights_of(trainer):
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])
