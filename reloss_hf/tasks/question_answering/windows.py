"""Reads a batch of windows: the places of the context and of the gold answers, and the text of spans."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..base import Inputs
from .preparation import null_token_id

# The text that a decoder writes for an incomplete character, and the most further tokens that a character is cut into.
_BROKEN = "\ufffd"
_PIECES = 3


def has_gold(inputs: Inputs) -> Tensor:
    """A mask of the windows with a gold answer that counts, which does not lie behind the end of the window."""
    return (_given_spans(inputs)[:, 0] < inputs["input_ids"].shape[1]).all(-1)


def gold_spans(inputs: Inputs, null_mask: Tensor) -> Tensor:
    """The gold answers of a batch, shape `(n, G, 2)`, all within the window.

    A position below 0 counts as 0, as in the losses of the models. A span of the column `gold_spans` below 0 fills up a
    row and becomes the null position. So does any span that lies behind the window.
    """
    spans = _given_spans(inputs)
    outside = (spans >= inputs["input_ids"].shape[1]).any(-1, keepdim=True)
    if inputs.get("gold_spans") is not None:
        outside |= (spans < 0).any(-1, keepdim=True)
    null = null_mask.int().argmax(1)[:, None, None]
    return torch.where(outside, null, spans.clamp(min=0))


def context_and_null(inputs: Inputs, tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Masks of the context and of the null position, of shape `(n, L)`.

    The context is the `context_span` of the data set. Without that column, the special tokens around question and
    context tell it. As in `prepare_features`, it follows the question if the tokenizer pads to the right, and precedes
    it otherwise. If no token divides the two, the whole text is context.
    """
    ids, padding = inputs["input_ids"], tokenizer.pad_token_id
    attended = inputs.get("attention_mask")
    if attended is not None:
        attended = attended.bool()
    else:
        attended = torch.ones_like(ids, dtype=torch.bool) if padding is None else ids != padding
    span = inputs.get("context_span")
    if span is None:
        context = _context_between_special_tokens(ids, attended, tokenizer)
    else:
        places = torch.arange(ids.shape[1], device=ids.device)
        context = (places >= span[:, :1]) & (places <= span[:, 1:])
    return context, _null(ids, attended, tokenizer)


def span_texts(tokenizer: Any, ids: Sequence[list[int]], spans: Sequence[Sequence[int]]) -> list[str]:
    """The text of a span of each row; `""` for an empty span. If a span begins or ends within a character that is cut
    into several tokens, its text has the whole character."""
    tokens = [window[span[0] : span[1] + 1] if span else [] for window, span in zip(ids, spans, strict=True)]
    texts = [text.strip() for text in tokenizer.batch_decode(tokens)]
    return [
        _with_whole_characters(tokenizer, window, span, text) if _BROKEN in (text[:1], text[-1:]) else text
        for window, span, text in zip(ids, spans, texts, strict=True)
    ]


def _given_spans(inputs: Inputs) -> Tensor:
    spans = inputs.get("gold_spans")
    if spans is None:
        positions = [inputs[name].reshape(-1) for name in ("start_positions", "end_positions")]
        spans = torch.stack(positions, dim=1).unsqueeze(1)
    return spans


def _context_between_special_tokens(ids: Tensor, attended: Tensor, tokenizer: Any) -> Tensor:
    names = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
    special = {getattr(tokenizer, name) for name in names} - {None}
    text = ~torch.isin(ids, torch.tensor(sorted(special), device=ids.device)) & attended
    runs = (text & ~pad(text, (1, 0))[:, :-1]).cumsum(1)
    last = runs.amax(1, keepdim=True)
    question = 1 if tokenizer.padding_side == "right" else last
    return text & ((runs != question) | (last == 1))


def _null(ids: Tensor, attended: Tensor, tokenizer: Any) -> Tensor:
    """The first token that stands for "no answer". If there is none, the first token of the question, or the last one
    if the question comes last."""
    null = (ids == null_token_id(tokenizer)) & attended
    null &= null.cumsum(1) == 1
    on_right = tokenizer.padding_side == "right"
    order = attended.int() if on_right else attended.int().flip(1)
    place = order.argmax(1, keepdim=True)
    place = place if on_right else ids.shape[1] - 1 - place
    instead = torch.zeros_like(null).scatter(1, place, True)
    return torch.where(null.any(1, keepdim=True), null, instead)


def _with_whole_characters(tokenizer: Any, window: list[int], span: Sequence[int], text: str) -> str:
    start, end = span
    for _ in range(_PIECES):
        wider = tokenizer.decode(window[start : end + 1]).strip()
        start -= wider.startswith(_BROKEN) and start > 0
        end += wider.endswith(_BROKEN) and end + 1 < len(window)
    wider = tokenizer.decode(window[start : end + 1]).strip()
    return text if _BROKEN in (wider[:1], wider[-1:]) else wider
