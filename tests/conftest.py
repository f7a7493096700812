"""A toy translation, small enough to learn in seconds, and real parts made of nothing but configs."""

import gc
import os
import random
from functools import partial
from unittest.mock import patch

import datasets
import evaluate
import pytest
import sacrebleu
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import DataCollatorForSeq2Seq, MarianConfig, MarianMTModel, PreTrainedTokenizerFast

pytest_plugins = ["toy_training"]

WORDS = {
    "red": "rot", "green": "grün", "blue": "blau", "black": "schwarz", "white": "weiß", "big": "groß", "small": "klein",
    "old": "alt", "new": "neu", "fast": "schnell", "slow": "lahm", "dog": "Hund", "cat": "Katze", "house": "Haus",
    "tree": "Baum", "car": "Auto", "bird": "Vogel", "fish": "Fisch", "road": "Weg", "river": "Fluss",
}  # fmt: skip


class SacrebleuModule(evaluate.Metric):
    """An `evaluate` module like the hub's sacrebleu, under a name of its own: the generic path."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="corpus BLEU",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
        )

    def _compute(self, predictions, references):
        bleu = sacrebleu.corpus_bleu(predictions, list(zip(*references, strict=True)))
        return {"score": bleu.score, "sys_len": bleu.sys_len, "ref_len": bleu.ref_len}


def toy_pairs(count, seed, shortest=4, longest=10):
    """Sentences of 4 to 10 words, translated word by word."""
    draw = random.Random(seed)
    for _ in range(count):
        words = draw.choices(list(WORDS), k=draw.randint(shortest, longest))
        yield " ".join(words), " ".join(WORDS[word] for word in words)


def make_tokenizer():
    specials = ["<pad>", "</s>", "<unk>"]
    vocabulary = {word: i for i, word in enumerate([*specials, *WORDS, *WORDS.values()])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=32
    )


def make_toy_data(tokenizer, count, seed=0, **lengths):
    def encode(text):
        return [*tokenizer(text).input_ids, tokenizer.eos_token_id]

    pairs = toy_pairs(count, seed, **lengths)
    return datasets.Dataset.from_list(
        [{"input_ids": encode(source), "labels": encode(target)} for source, target in pairs]
    )


def build_toy_model(tokenizer, seed):
    torch.manual_seed(seed)
    config = MarianConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        forced_eos_token_id=None,
        init_std=0.1,
        scale_embedding=True,
        dropout=0.0,
    )
    return MarianMTModel(config)


@pytest.fixture(scope="session", autouse=True)
def frozen_imports():
    """The Trainer collects garbage at every start: a second each time, unless what was imported is left out."""
    gc.freeze()


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def toy_data(tokenizer):
    return partial(make_toy_data, tokenizer)


@pytest.fixture
def toy_model(tokenizer):
    def make(seed=0):
        return build_toy_model(tokenizer, seed)

    return make


@pytest.fixture
def warm_model(toy_model, warm_weights):
    def make():
        model = toy_model()
        model.load_state_dict(warm_weights)
        return model

    return make


@pytest.fixture(autouse=True)
def environment_is_left_as_it_was():
    """`torch_compile` and others are settings of the Trainer that last, in the environment, for all that follow."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="session")
def warm_weights(toy_data, tokenizer):
    """Weights of a `toy_model` that has learned about half of the toy translation."""
    model = build_toy_model(tokenizer, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    examples, collate = list(toy_data(1000, seed=9)), DataCollatorForSeq2Seq(tokenizer)
    draw = random.Random(0)
    for _ in range(110):
        model(**collate(draw.sample(examples, 32))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


@pytest.fixture
def collator(tokenizer):
    return DataCollatorForSeq2Seq(tokenizer)
