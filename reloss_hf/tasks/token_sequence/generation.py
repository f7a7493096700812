"""The own output of an encoder-decoder model: greedy, or sampled."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

from ..base import Inputs
from ..models import learns_prompts, model_and_wrapped, takes

# How many tokens beyond the length of the longest target the model may generate.
_EXTRA_TOKENS = 8
# How configurations call the number of positions that a decoder has.
_POSITIONS = ("max_target_positions", "max_decoder_position_embeddings", "max_position_embeddings")


def require_own_output(model: torch.nn.Module, is_encoder_decoder: bool) -> None:
    """Raises ValueError if the own output of the model cannot be read."""
    model_name = type(model).__name__
    instead = "use surrogate_predictions='forced' and a surrogate that reads 'target_log_probs'"
    if not is_encoder_decoder:
        raise ValueError("the own output of a decoder-only model cannot be read: " + instead)
    if learns_prompts(model):
        raise ValueError(
            f"model={model_name} learns a prompt, and the states of its encoder already contain it, so its own "
            f"output cannot be read: {instead}"
        )
    lacks = [f"forward({name}=)" for name in ("decoder_input_ids", "encoder_outputs") if not takes(model, name)]
    lacks += [] if callable(getattr(model, "generate", None)) else ["generate()"]
    if lacks:
        raise ValueError(
            f"model={model_name} has no {' and no '.join(lacks)}, so its own output cannot be read: {instead}"
        )


def require_draft(model: torch.nn.Module, is_encoder_decoder: bool) -> None:
    """Raises ValueError if the model cannot read a draft in place of the target."""
    needs = ("decoder_input_ids", "encoder_outputs") if is_encoder_decoder else ("input_ids",)
    lacks = [f"forward({name}=)" for name in needs if not takes(model, name)]
    if lacks or learns_prompts(model):
        reason = f"has no {' and no '.join(lacks)}" if lacks else "learns a prompt"
        raise ValueError(
            f"model={type(model).__name__} {reason}, so it cannot read a draft: use a surrogate that reads "
            "'target_log_probs'"
        )


def source(inputs: Inputs) -> Inputs:
    """The part of a batch that the encoder reads."""
    return {name: value for name, value in inputs.items() if name != "labels" and not name.startswith("decoder_")}


def encoded_source(outputs: Any, inputs: Inputs, times: int = 1) -> Inputs:
    """The source as the decoder reads it, each row `times` times. These are the states of the encoder, so that it does
    not run again. If the outputs have none, it is the source itself."""
    states, rest = _encoder_states(outputs), source(inputs)
    if states is None:
        return _repeated(rest, times)
    rest = {name: value for name, value in rest.items() if name == "attention_mask" and value is not None}
    encoder_outputs = BaseModelOutput(last_hidden_state=states.repeat_interleave(times, 0))
    return _repeated(rest, times) | {"encoder_outputs": encoder_outputs}


@torch.no_grad()
def decode(
    model: torch.nn.Module,
    outputs: Any,
    inputs: Inputs,
    starts: Tensor,
    samples: int | None = None,
    processor: LogitsProcessor | None = None,
) -> Tensor:
    """Greedy output for a batch, shape `(n, 1 + H)`, or `samples` samples for each example, shape `(n · samples, 1 +
    H)`. An output starts with the decoder's start token.

    A model in training mode decodes with dropout. Without dropout it makes few errors on data that it knows by heart.

    Args:
        outputs: outputs of the model for the batch. If they have the states of the encoder, it does not run again.
        starts: the start token of each example, and the prompt behind it, shape `(n, 1 + K)`. They are put first if
            `generate` leaves them out.
        processor: sees and changes the scores of each next token.
    """
    model = extract_model_from_parallel(model)
    times = 1 if samples is None else samples
    arguments, starts = _repeated(source(inputs), times), starts.repeat_interleave(times, 0)
    states = _encoder_states(outputs)
    if states is not None:
        states = states.detach().repeat_interleave(times, 0)
        arguments["encoder_outputs"] = BaseModelOutput(last_hidden_state=states)
    if starts.shape[1] > 1:
        arguments["decoder_input_ids"] = starts
    settings = _settings(model, _new_tokens(model, inputs["labels"].shape[1], starts.shape[1]), samples is not None)
    processors = LogitsProcessorList([] if processor is None else [processor])
    tokens = _generate_of(model)(**arguments, generation_config=settings, logits_processor=processors)
    other = settings.decoder_start_token_id  # generate may start with another token than training
    begins = (tokens[:, :1] == starts[:, :1]).all() or (other is not None and (tokens[:, 0] == other).all())
    return tokens if begins else torch.cat([starts, tokens], dim=1)


class WithoutClosing(LogitsProcessor):
    """Keeps a model from closing its output, and notes how near it was to it.

    Args:
        closing: the closing tokens.

    Attributes:
        best: the closing token with the highest score at each step, a list of tensors of shape `(n,)`.
        margins: its score minus the highest score of another token, likewise.
    """

    def __init__(self, closing: Tensor):
        self.closing, self.best, self.margins = closing, [], []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        highest, place = scores[:, self.closing].max(1)
        rest = scores.index_fill(1, self.closing, -torch.inf)
        self.best.append(self.closing[place])
        self.margins.append((highest - rest.amax(1)).float())
        return rest


def _generate_of(model: torch.nn.Module) -> Callable[..., Tensor]:
    """The model's own `generate`, but not Whisper's, which adds tokens in front that the output does not show."""
    for module in model_and_wrapped(model):
        if isinstance(module, WhisperGenerationMixin):
            return partial(GenerationMixin.generate, module)
    return model.generate


def _new_tokens(model: torch.nn.Module, target: int, start: int) -> int:
    """How many tokens the model may generate behind `start` tokens if the longest target has `target`: some more than
    the target, but none for which the decoder has no position."""
    decoder = model.config.get_text_config(decoder=True) if hasattr(model, "config") else None
    positions = next((getattr(decoder, name) for name in _POSITIONS if getattr(decoder, name, None)), None)
    most = target + _EXTRA_TOKENS
    return most if positions is None else min(most, max(positions, target + 1) - start)


def _settings(model: torch.nn.Module, most: int, samples: bool) -> GenerationConfig:
    """The settings of the model, such as suppressed tokens, but with greedy decoding or plain sampling."""
    settings = copy.deepcopy(model.generation_config)
    skips = any(getattr(m, "gradient_checkpointing", False) or getattr(m, "layerdrop", 0) for m in model.modules())
    changes = {"num_beams": 1, "do_sample": False, "early_stopping": False, "length_penalty": 1.0}
    changes |= dict.fromkeys(("num_beam_groups", "diversity_penalty", "penalty_alpha"))
    changes |= dict.fromkeys(("constraints", "force_words_ids"))
    changes |= {"num_return_sequences": 1, "return_dict_in_generate": False, "max_length": None, "max_new_tokens": most}
    changes["use_cache"] = not (model.training and skips)  # a skipped layer may return nothing to cache
    if samples:
        changes |= {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    settings.update(**changes)  # all at once, because they are validated together
    return settings


def _encoder_states(outputs: Any) -> Tensor | None:
    return outputs.get("encoder_last_hidden_state") if hasattr(outputs, "keys") else None


def _repeated(inputs: Inputs, times: int) -> Inputs:
    """Each row of each tensor repeated `times` times, one after the other."""
    return {k: v.repeat_interleave(times, 0) if torch.is_tensor(v) and times > 1 else v for k, v in inputs.items()}
