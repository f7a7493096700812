"""Tiny models that generate text, of transformers and of one's own, and what their tests share."""

import peft
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

WIDTH, WORDS = 16, 43
SMALL = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
SMALL |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 0}


def t5(cls=T5ForConditionalGeneration, **changes):
    torch.manual_seed(0)
    config = T5Config(vocab_size=WORDS, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0,
                      eos_token_id=1, decoder_start_token_id=0)  # fmt: skip
    model = cls(config)
    for name, value in changes.items():
        setattr(model.config, name, value)
    return model


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1,
                    num_attention_heads=2, num_key_value_heads=2, initializer_range=0.5)
    )  # fmt: skip


def whisper():
    torch.manual_seed(0)
    return WhisperForConditionalGeneration(
        WhisperConfig(vocab_size=WORDS, d_model=WIDTH, max_source_positions=10, max_target_positions=40,
                      num_mel_bins=8, suppress_tokens=None, begin_suppress_tokens=None, **SMALL, **TOKENS)
    )  # fmt: skip


def gpt2(**changes):
    return GPT2Config(vocab_size=WORDS, n_embd=WIDTH, n_layer=1, n_head=2, n_positions=32, bos_token_id=1,
                      eos_token_id=1, initializer_range=0.5, **changes)  # fmt: skip


def captions():
    encoder = ViTConfig(hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                        image_size=16, patch_size=8)  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        encoder, gpt2(add_cross_attention=True, is_decoder=True)
    )
    model = VisionEncoderDecoderModel(config=config)
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id, settings.pad_token_id, settings.eos_token_id = 2, 0, 1
    return model


class Within(nn.Module):
    """A module of the user's own around an encoder-decoder model."""

    def __init__(self, has_config=True):
        super().__init__()
        self.net = t5()
        if has_config:
            self.config = self.net.config


class LabelsAlone(Within):
    def forward(self, input_ids, attention_mask=None, labels=None):
        return self.net(input_ids=input_ids, attention_mask=attention_mask, labels=labels)


class AsDict(Within):
    def forward(self, input_ids, labels=None, decoder_input_ids=None):
        outputs = self.net(input_ids=input_ids, labels=labels, decoder_input_ids=decoder_input_ids)
        return {name: outputs[name] for name in ("loss", "logits") if name in outputs}


class HalfLoss(T5ForConditionalGeneration):
    """It reckons with labels, and fails without them."""

    def forward(self, input_ids=None, labels=None, **keywords):
        outputs = super().forward(input_ids, labels=labels, **keywords)
        outputs.loss = 0.5 * outputs.loss
        return outputs


class FusedHead(T5ForConditionalGeneration):
    def forward(self, input_ids=None, labels=None, **keywords):
        outputs = super().forward(input_ids, labels=labels, **keywords)
        if self.training and labels is not None:
            outputs.logits = None
        return outputs


class Bigrams(nn.Module):
    """A language model from scratch, whose labels are, or are not, one position ahead of the input already."""

    def __init__(self, shifts, as_tuple=False, silent=False):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS))
        self.shifts, self.as_tuple, self.silent = shifts, as_tuple, silent

    def forward(self, input_ids, labels=None):
        logits = self.net(input_ids)
        if labels is None:
            return (logits,) if self.as_tuple else {"logits": logits}
        scores, targets = (logits[:, :-1], labels[:, 1:]) if self.shifts else (logits, labels)
        loss = cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=-1)
        if self.silent and self.training:
            return (loss,) if self.as_tuple else {"loss": loss}
        return (loss, logits) if self.as_tuple else {"loss": loss, "logits": logits}


LEARNS = {"surrogate_snapshots": 2, "surrogate_snapshot_size": 16, "surrogate_group_size": 2}


def prompts(kind, model, task_type):
    return peft.get_peft_model(model, kind(task_type=task_type, num_virtual_tokens=2))


def overlap(predictions, references):
    pairs = zip(predictions, references, strict=True)
    return sum(len(set(p.split()) & set(r.split())) for p, r in pairs) / len(references)


def switched(trainer):
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["surrogate_in_force"] for entry in logs] == [0, 0, 1, 1]
    assert torch.tensor([entry["loss"] for entry in logs]).isfinite().all()
    return logs
