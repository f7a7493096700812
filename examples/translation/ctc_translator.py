"""A translator that says all words at once: an encoder, its states repeated, and CTC over the pieces of the target."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

_LONGEST = 256


class CtcTranslatorConfig(PreTrainedConfig):
    """Args:
    layers: of each of the two stacks, below and above where states are repeated.
    repeats: frames for each token of the source.
    """

    model_type = "ctc_translator"

    def __init__(
        self,
        vocab_size: int = 1000,
        layers: int = 2,
        width: int = 128,
        heads: int = 4,
        dropout: float = 0.1,
        repeats: int = 2,
        pad_token_id: int = 0,
        **keywords,
    ):
        super().__init__(**keywords)
        self.vocab_size, self.layers, self.width, self.heads = vocab_size, layers, width, heads
        self.dropout, self.repeats, self.pad_token_id = dropout, repeats, pad_token_id


class CtcTranslator(PreTrainedModel):
    """Logits `(n, repeats · S, vocabulary)` for sources `(n, S)`. The blank is the padding token. One matrix embeds the
    tokens of the source and scores those of the target."""

    config_class = CtcTranslatorConfig
    base_model_prefix = "translator"

    def __init__(self, config: CtcTranslatorConfig):
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.places = nn.Embedding(_LONGEST, config.width)
        self.frames = nn.Embedding(config.repeats * _LONGEST, config.width)
        self.below, self.above = (self._stack(config) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> CausalLMOutput:
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = attention_mask == 0
        states = self.tokens(input_ids) * self.config.width**0.5 + self.places.weight[: input_ids.shape[1]]
        states = self.below(self.dropout(states), src_key_padding_mask=hidden)
        repeats = self.config.repeats
        states = states.repeat_interleave(repeats, 1) + self.frames.weight[: repeats * input_ids.shape[1]]
        states = self.above(self.dropout(states), src_key_padding_mask=hidden.repeat_interleave(repeats, 1))
        logits = nn.functional.linear(states, self.tokens.weight, self.bias)
        loss = None if labels is None else self._loss(logits, attention_mask, labels)
        return CausalLMOutput(loss=loss, logits=logits)

    def _get_feat_extract_output_lengths(self, lengths: Tensor) -> Tensor:
        """The number of frames for sources of these lengths. Trainers of CTC models ask for it by this name."""
        return self.config.repeats * lengths

    def _loss(self, logits: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        frames, blank = self._get_feat_extract_output_lengths(attention_mask.sum(1)), self.config.pad_token_id
        log_probs, lengths = logits.float().log_softmax(-1).transpose(0, 1), (labels >= 0).sum(1)
        return nn.functional.ctc_loss(log_probs, labels.clamp(min=0), frames, lengths, blank, zero_infinity=True)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.width**-0.5)

    @staticmethod
    def _stack(config: CtcTranslatorConfig) -> nn.TransformerEncoder:
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 2 * config.width, config.dropout, batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(config.width)
        return nn.TransformerEncoder(layer, config.layers, norm, enable_nested_tensor=False)
