"""Toy tagging: names and places among other words. A word of theirs is an entity less often than not, so cross-entropy
says `O`."""

import random

import datasets
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from toy_training import learning_less
from transformers import (
    BertConfig,
    BertForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerFast,
)

from reloss_hf import ReLossTrainer, ReLossTrainingArguments, prepare_tagging_features, tag_names

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
SHORT = {"max_steps": 8, "surrogate_held_out_share": 0.3, "surrogate_learn_again": 0}
OTHERS = [f"w{number}" for number in range(12)]
WORDS = {"PER": [f"p{number}" for number in range(6)], "LOC": [f"l{number}" for number in range(6)]}
_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
_SHARE = {"PER": 0.45, "LOC": 0.35}  # how often a word of this type is an entity


def make_sentences(count, seed=0, longest=8):
    """Columns `tokens` and `ner_tags`, by name. An entity goes on with the next word if that has its type."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        tokens, tags = [], []
        while len(tokens) < draw.randint(3, longest):
            kind = draw.choice(["", "", "PER", "LOC"])
            tokens.append(draw.choice(WORDS[kind] if kind else OTHERS))
            goes_on = bool(tags) and kind and tags[-1][2:] == kind
            entity = kind and draw.random() < (0.9 if goes_on else _SHARE[kind])
            tags.append(f"{'I' if goes_on else 'B'}-{kind}" if entity else "O")
        rows.append({"tokens": tokens, "ner_tags": tags})
    return datasets.Dataset.from_list(rows)


def make_tokenizer(pieces=False):
    """Words are tokens. With `pieces`, a word is a token for its letter and one for each digit."""
    known = sorted({part for word in [*OTHERS, *WORDS["PER"], *WORDS["LOC"]] for part in [word, *word]})
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*_SPECIALS, *known])}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if pieces:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")]
        )
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=64,
    )  # fmt: skip


def make_features(count, seed=0, names=NAMES):
    return prepare_tagging_features(make_sentences(count, seed), make_tokenizer(), names)


def make_model(seed=0, names=NAMES, **changes):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(make_tokenizer()),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
        **changes,
    )
    return BertForTokenClassification(config)


def warm_tagger(sentences):
    """A tagger of the tags that occur, sorted, which has learned from sentences."""
    names = tag_names(sentences)
    model, tokenizer = make_model(names=names), make_tokenizer()
    rows = prepare_tagging_features(sentences, tokenizer, names).remove_columns("text")
    optimizer, collate = torch.optim.Adam(model.parameters(), lr=1e-2), DataCollatorForTokenClassification(tokenizer)
    for chosen in torch.arange(len(rows)).repeat(4).split(50):
        model(**collate([rows[row] for row in chosen.tolist()])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def make_trainer(folder, train=None, model=None, cls=ReLossTrainer, arguments=None, **keywords):
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
    trainer = cls(
        model=model or make_model(),
        args=ReLossTrainingArguments(**settings | (arguments or {})),
        train_dataset=make_features(1200) if train is None else train,
        processing_class=make_tokenizer(),
        **keywords,
    )
    return learning_less(trainer)


def weights_of(trainer):
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])
