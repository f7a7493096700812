"""A toy translation, small enough to learn in seconds, and real parts made of nothing but configs."""

import random

import datasets
import evaluate
import sacrebleu
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

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


def build_toy_model(tokenizer, seed, **changes):
    torch.manual_seed(seed)
    settings = {
        "vocab_size": len(tokenizer),
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": 64,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
        "forced_eos_token_id": None,
        "init_std": 0.1,
        "scale_embedding": True,
        "dropout": 0.0,
    }
    return MarianMTModel(MarianConfig(**settings | changes))
