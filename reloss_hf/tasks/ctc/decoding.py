"""The texts of classes, and the tokens that they stand for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .lattice import BLANK

_BEGINS_WORD = "▁"


def pieces_of(tokenizer: Any, classes: int) -> list[str]:
    """What each class adds to a text: a character or a piece of a word, a space for the token between words, and
    nothing for special tokens.

    Args:
        tokenizer: the tokenizer.
        classes: the number of classes of the model.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(classes, len(tokenizer)))))
    special, between = set(tokenizer.all_special_ids), getattr(tokenizer, "word_delimiter_token", None)
    pieces = [""] * classes
    for number, token in enumerate(tokens):
        if between is not None and token == between:
            pieces[number] = " "
        elif number not in special and token is not None:
            token = token.lower() if getattr(tokenizer, "do_lower_case", False) else token
            pieces[number] = token.replace(_BEGINS_WORD, " ")
    return pieces


def texts_of(classes: Tensor, pieces: Sequence[str]) -> list[str]:
    """The texts of characters, `(n, L)`; the blank and negative numbers are none."""
    known = classes > BLANK
    flat = np.array(pieces, dtype=object)[classes[known].cpu().numpy()]
    ends = known.sum(1).cumsum(0).tolist()
    return ["".join(flat[start:end]).strip() for start, end in zip([0, *ends], ends, strict=False)]


def blank_first(classes: int, blank: int) -> Tensor:
    """The places of the classes if the blank changes places with class 0. It is its own inverse."""
    order = torch.arange(classes)
    order[[BLANK, blank]] = order[[blank, BLANK]]
    return order
