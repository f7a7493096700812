"""Toy speech: each character has a sound, of one length or another, with noise. Words have two to four characters."""

import functools
import random

import datasets
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from toy_training import learning_less
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from reloss_hf import ReLossTrainer, ReLossTrainingArguments

LETTERS = "abcde"
# The blank is not the first token, as in tokenizers that the example of transformers makes.
VOCABULARY = {letter: number for number, letter in enumerate(LETTERS)} | {"|": 5, "[UNK]": 6, "[PAD]": 7}
_FRAME = 8  # samples
_SOUNDS = np.random.default_rng(0).normal(size=(len(LETTERS), _FRAME))


def make_processor(folder):
    (folder / "vocab.json").write_text(str(VOCABULARY).replace("'", '"'))
    tokenizer = Wav2Vec2CTCTokenizer(
        str(folder / "vocab.json"), unk_token="[UNK]", pad_token="[PAD]", word_delimiter_token="|",
        bos_token=None, eos_token=None,
    )  # fmt: skip
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=16000, return_attention_mask=True)
    return Wav2Vec2Processor(extractor, tokenizer)


def speak(text, draw):
    """Samples of a text."""
    parts = []
    for letter in text:
        sound = np.zeros(_FRAME) if letter == " " else _SOUNDS[LETTERS.index(letter)]
        parts += [sound] * draw.randint(1, 3) + [np.zeros(_FRAME)] * draw.randint(0, 1)
    speech = np.concatenate([*parts, np.zeros(_FRAME * (len(text) + 2))])
    noise = np.random.default_rng(draw.randrange(10**6)).normal(size=len(speech))
    return (speech + 0.3 * noise).astype(np.float32)


def make_rows(count, seed=0, words=3):
    """Columns `input_values` and `labels`."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        text = " ".join("".join(draw.choices(LETTERS, k=draw.randint(2, 4))) for _ in range(draw.randint(1, words)))
        labels = [VOCABULARY[letter.replace(" ", "|")] for letter in text]
        rows.append({"input_values": speak(text, draw), "labels": labels})
    return datasets.Dataset.from_list(rows).with_format(None)


def make_model(seed=0, **changes):
    torch.manual_seed(seed)
    settings = {
        "vocab_size": len(VOCABULARY),
        "pad_token_id": VOCABULARY["[PAD]"],
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": (32,),
        "conv_stride": (_FRAME,),
        "conv_kernel": (_FRAME,),
        "num_feat_extract_layers": 1,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "initializer_range": 0.2,
        "layerdrop": 0.0,
        "apply_spec_augment": False,
        **dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0),
        "final_dropout": 0.0,
    }
    return Wav2Vec2ForCTC(Wav2Vec2Config(**settings | changes))


@functools.cache
def _warm_weights():
    model, rows = make_model(), make_rows(400, seed=7)
    batches = torch.arange(len(rows)).repeat(2).split(8)
    optimizer, rows = torch.optim.AdamW(model.parameters(), lr=1e-2), list(rows)
    for chosen in batches:
        speech = [torch.tensor(rows[row]["input_values"]) for row in chosen]
        inputs = {
            "input_values": pad_sequence(speech, batch_first=True),
            "attention_mask": pad_sequence(
                [torch.ones(len(one), dtype=torch.long) for one in speech], batch_first=True
            ),
        }
        labels = [torch.tensor(rows[row]["labels"]) for row in chosen]
        labels = pad_sequence(labels, batch_first=True, padding_value=-100)
        (model(**inputs, labels=labels).loss / (labels >= 0).sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def warm_model(**changes):
    """A model that has learned the sounds, but not well."""
    model = make_model(**changes)
    model.load_state_dict(_warm_weights())
    return model


def make_trainer(folder, train=None, model=None, cls=ReLossTrainer, arguments=None, **keywords):
    """60 steps, on a surrogate from step 30 on."""
    settings = {
        "output_dir": str(folder),
        "max_steps": 60,
        "surrogate_start": 0.5,
        "per_device_train_batch_size": 16,
        "learning_rate": 5e-3,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    keywords.setdefault("processing_class", make_processor(folder))
    trainer = cls(
        model=model or warm_model(),
        args=ReLossTrainingArguments(**settings | (arguments or {})),
        train_dataset=make_rows(400) if train is None else train,
        **keywords,
    )
    return learning_less(trainer)
