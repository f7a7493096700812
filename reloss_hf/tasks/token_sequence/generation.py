"""What an encoder-decoder model says by itself: its greedy output, or samples."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

from ..base import Inputs
from ..models import learns_prompts, model_and_wrapped, takes

# How many tokens beyond the length of the longest target the model may generate.
_EXTRA_TOKENS = 8


def require_own_output(model: torch.nn.Module, is_encoder_decoder: bool) -> None:
    """Raises ValueError where the own output of the model cannot be read."""
    model_name = type(model).__name__
    instead = "use surrogate_predictions='forced' and a surrogate that reads 'target_log_probs'"
    if not is_encoder_decoder:
        raise ValueError(
            "the model's own output is read from encoder-decoder models alone: for a decoder-only model " + instead
        )
    if learns_prompts(model):
        raise ValueError(
            f"model={model_name} learns a prompt, which the states of the encoder have in them already, so its own "
            f"output cannot be read: {instead}"
        )
    lacks = [f"forward({name}=)" for name in ("decoder_input_ids", "encoder_outputs") if not takes(model, name)]
    lacks += [] if callable(getattr(model, "generate", None)) else ["generate()"]
    if lacks:
        raise ValueError(
            f"model={model_name} has no {' and no '.join(lacks)}, so its own output cannot be read: {instead}"
        )


def source(inputs: Inputs) -> Inputs:
    """What the encoder reads of a batch."""
    return {name: value for name, value in inputs.items() if name != "labels" and not name.startswith("decoder_")}


def encoded_source(outputs: Any, inputs: Inputs, times: int = 1) -> Inputs:
    """What the decoder reads of the source, each row so many times: the states of the encoder, which is not run again,
    or the source itself where the outputs do not have them."""
    states, rest = _encoder_states(outputs), source(inputs)
    if states is None:
        return _repeated(rest, times)
    rest = {name: value for name, value in rest.items() if name == "attention_mask" and value is not None}
    encoder_outputs = BaseModelOutput(last_hidden_state=states.repeat_interleave(times, 0))
    return _repeated(rest, times) | {"encoder_outputs": encoder_outputs}


@torch.no_grad()
def decode(model: torch.nn.Module, outputs: Any, inputs: Inputs, starts: Tensor, samples: int | None = None) -> Tensor:
    """Greedy output for a batch, shape `(n, 1 + H)`; it starts with the decoder's start token. Or so many samples for
    each example, shape `(n · samples, 1 + H)`.

    A model in training decodes with dropout: without it, it makes few errors on data that it knows by heart.

    Args:
        outputs: of the model for the batch; its encoder is not run again, where they have its states.
        starts: the start token of each example, shape `(n, 1)`: put first where `generate` leaves it out.
    """
    model = extract_model_from_parallel(model)
    times = 1 if samples is None else samples
    arguments, starts = _repeated(source(inputs), times), starts.repeat_interleave(times, 0)
    states = _encoder_states(outputs)
    if states is not None:
        states = states.detach().repeat_interleave(times, 0)
        arguments["encoder_outputs"] = BaseModelOutput(last_hidden_state=states)
    settings = _settings(model, inputs["labels"].shape[1] + _EXTRA_TOKENS, samples is not None)
    tokens = _generate_of(model)(**arguments, generation_config=settings)
    other = settings.decoder_start_token_id  # that of generate, where it is not the one of training
    begins = (tokens[:, :1] == starts).all() or (other is not None and (tokens[:, 0] == other).all())
    return tokens if begins else torch.cat([starts, tokens], dim=1)


def _generate_of(model: torch.nn.Module) -> Callable[..., Tensor]:
    """The model's own; but that of Whisper puts tokens of its choice first, of which the output tells nothing."""
    for module in model_and_wrapped(model):
        if isinstance(module, WhisperGenerationMixin):
            return partial(GenerationMixin.generate, module)
    return model.generate


def _settings(model: torch.nn.Module, most: int, samples: bool) -> GenerationConfig:
    """Those of the model, such as tokens that it never says, but greedy, or sampling from what it predicts."""
    settings = copy.deepcopy(model.generation_config)
    skips = any(getattr(m, "gradient_checkpointing", False) or getattr(m, "layerdrop", 0) for m in model.modules())
    changes = {"num_beams": 1, "do_sample": False, "early_stopping": False, "length_penalty": 1.0}
    changes |= dict.fromkeys(("num_beam_groups", "diversity_penalty", "penalty_alpha"))
    changes |= dict.fromkeys(("constraints", "force_words_ids"))
    changes |= {"num_return_sequences": 1, "return_dict_in_generate": False, "max_length": None, "max_new_tokens": most}
    changes["use_cache"] = not (model.training and skips)  # where a layer may not return what is to be cached
    if samples:
        changes |= {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    settings.update(**changes)  # at once: what is valid depends on several of them together
    return settings


def _encoder_states(outputs: Any) -> Tensor | None:
    return outputs.get("encoder_last_hidden_state") if hasattr(outputs, "keys") else None


def _repeated(inputs: Inputs, times: int) -> Inputs:
    """Each row of each tensor so many times, one after the other."""
    return {k: v.repeat_interleave(times, 0) if torch.is_tensor(v) and times > 1 else v for k, v in inputs.items()}
