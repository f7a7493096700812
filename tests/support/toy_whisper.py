"""A tiny Whisper, with prompt tokens that it is kept from generating, and log-mel spectra of noise whose loudness tells
the text."""

import random

import numpy as np
import torch
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from reloss_hf import ReLossSeq2SeqTrainer, ReLossSeq2SeqTrainingArguments

WORDS = ("ab", "bad", "cab", "dad")
END, START, LANGUAGE, TASK, PLAIN = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"
)  # fmt: skip
VOCABULARY = {
    token: number for number, token in enumerate(["a", "b", "c", "d", "Ġ", END, START, LANGUAGE, TASK, PLAIN])
}
PROMPT = [VOCABULARY[token] for token in (LANGUAGE, TASK, PLAIN)]


def make_processor():
    special = [START, LANGUAGE, TASK, PLAIN]
    tokenizer = WhisperTokenizer(
        vocab=VOCABULARY, merges=[], language="en", task="transcribe", pad_token=END, extra_special_tokens=special
    )
    return WhisperProcessor(WhisperFeatureExtractor(feature_size=8, chunk_length=1), tokenizer)


def make_rows(count, seed=0, processor=None):
    draw, noise, rows = random.Random(seed), np.random.default_rng(seed), []
    processor = processor or make_processor()
    for _ in range(count):
        places = [draw.randrange(len(WORDS)) for _ in range(draw.randint(1, 3))]
        speech = np.concatenate([noise.normal(size=4000) * (1 + place) ** 2 for place in places])
        features = processor.feature_extractor(speech, sampling_rate=16000).input_features[0]
        rows.append(
            {"input_features": features, "labels": processor.tokenizer(" ".join(WORDS[p] for p in places)).input_ids}
        )
    return rows


def collate(rows):
    """As the example of transformers collates: without the start token, and -100 behind the texts."""
    longest = max(len(row["labels"]) for row in rows)
    labels = [row["labels"][1:] + [-100] * (longest - len(row["labels"])) for row in rows]
    speech = torch.from_numpy(np.stack([row["input_features"] for row in rows]))
    return {"input_features": speech, "labels": torch.tensor(labels)}


def make_model(seed=0, **changes):
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=len(VOCABULARY), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=50,
        max_target_positions=40, init_std=0.2, decoder_start_token_id=VOCABULARY[START], suppress_tokens=None,
        begin_suppress_tokens=None, **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), VOCABULARY[END]),
        **changes,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config.suppress_tokens = [VOCABULARY[START], VOCABULARY[LANGUAGE], VOCABULARY[TASK]]
    model.generation_config.forced_decoder_ids = [[place + 1, token] for place, token in enumerate(PROMPT)]
    return model


def make_trainer(folder, train=None, model=None, arguments=None, **keywords):
    """24 steps, on a surrogate from step 12 on."""
    settings = {
        "output_dir": str(folder),
        "max_steps": 24,
        "surrogate_start": 0.5,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "remove_unused_columns": False,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    keywords = {"processing_class": make_processor(), "data_collator": collate} | keywords
    return ReLossSeq2SeqTrainer(
        model=model or make_model(),
        args=ReLossSeq2SeqTrainingArguments(**settings | (arguments or {})),
        train_dataset=make_rows(160) if train is None else train,
        **keywords,
    )
