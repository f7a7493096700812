"""The tokens of a model that generates text: what its decoder reads for labels, what ends a text, what is decoded."""

from typing import Any

import torch
from torch import Tensor
from transformers import EncoderDecoderModel
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

from ..base import Inputs
from ..models import model_and_wrapped, takes
from .features import targets_of

# Marks that end a sentence.
_MARKS = frozenset(".!?…。！？．｡।؟۔")


class Decoder:
    """The tokens of a model.

    Args:
        model: the model.
        tokenizer: decodes tokens; None if nothing is decoded.

    Attributes:
        is_encoder_decoder: whether an encoder reads the source.
        makes_inputs: whether the inputs of the decoder can be made from labels, without the model's forward pass.
    """

    def __init__(self, model: torch.nn.Module, tokenizer: Any):
        self._modules, self._tokenizer = tuple(model_and_wrapped(model)), tokenizer
        self._config = next((m.config for m in self._modules if hasattr(m, "config")), None)
        self._marks: Tensor | None = None
        decodes = takes(model, "decoder_input_ids") if self._config is None else self._config.is_encoder_decoder
        self.is_encoder_decoder: bool = decodes
        prepares = any(hasattr(m, "prepare_decoder_input_ids_from_labels") for m in self._modules)
        starts = prepares or getattr(self._config, "decoder_start_token_id", None) is not None
        self.makes_inputs = takes(model, "decoder_input_ids") and starts

    def inputs(self, labels: Tensor) -> Tensor:
        """The tokens that the decoder reads to predict these, shape `(n, T)`: a start token and those before each."""
        labels = targets_of(labels)
        for module in self._modules:
            if hasattr(module, "prepare_decoder_input_ids_from_labels"):
                return module.prepare_decoder_input_ids_from_labels(labels=labels)
        config = self._config  # M2M100, NLLB and Blenderbot shift labels only in their forward pass
        return shift_tokens_right(labels, config.pad_token_id, config.decoder_start_token_id)

    def arguments(self, labels: Tensor) -> Inputs:
        """These inputs by name, as the model makes them itself."""
        inputs = self.inputs(labels)
        found = {"decoder_input_ids": inputs}
        if any(isinstance(m, EncoderDecoderModel) for m in self._modules):
            # It masks padding in the inputs that it makes from labels, so also the start token if both are equal.
            found["decoder_attention_mask"] = (inputs != self._config.pad_token_id).to(inputs.dtype)
        return found

    def prompt_length(self, labels: Tensor) -> int:
        """How many tokens in front of the labels tell Whisper what to do, such as the language and the task. The model
        is trained on them, but it may be kept from generating them. 0 for other models, or without a tokenizer."""
        tokenizer = self._tokenizer
        if tokenizer is None or not any(isinstance(module, WhisperGenerationMixin) for module in self._modules):
            return 0
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special = {*tokenizer.all_special_ids, *(number for number, token in added.items() if token.special)}
        special -= {tokenizer.eos_token_id}
        in_prompt = torch.isin(labels, torch.tensor(sorted(special), device=labels.device)).cumprod(1)
        return int(in_prompt.sum(1).min())

    def is_end(self, tokens: Tensor) -> Tensor:
        """Which tokens end a text, a mask of their shape."""
        return torch.isin(tokens, self._ends().to(tokens.device))

    def until_end(self, tokens: Tensor) -> Tensor:
        """A mask of the tokens of outputs, up to and including their end, shape `(n, H)`."""
        is_end = self.is_end(tokens)
        return is_end.cumsum(1) - is_end.int() == 0

    def closing(self, device: torch.device) -> Tensor:
        """The tokens that close a text: those that end it, and marks that end a sentence and are nothing else."""
        if self._marks is None:
            texts = self._tokenizer.batch_decode([[token] for token in range(len(self._tokenizer))])
            marks = [token for token, text in enumerate(texts) if text.strip() and _MARKS.issuperset(text.strip())]
            self._marks = torch.tensor(marks, dtype=torch.long)
        return torch.cat([self._ends(), self._marks]).to(device)

    def texts(self, rows: Tensor | list[list[int]]) -> list[str]:
        """The texts of rows of tokens. Negative numbers are left out."""
        if torch.is_tensor(rows):
            rows = [[token for token in row if token >= 0] for row in rows.tolist()]
        return [text.strip() for text in self._tokenizer.batch_decode(rows, skip_special_tokens=True)]

    def _ends(self) -> Tensor:
        settings = (getattr(m, "generation_config", None) for m in self._modules)
        known = next((found for found in settings if found is not None), self._tokenizer)
        ends = getattr(known, "eos_token_id", None)  # the Trainer adds the tokenizer's token when it starts
        return torch.tensor([] if ends is None else ends, dtype=torch.long).flatten()
