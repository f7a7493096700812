"""Surrogate losses."""

from .base import SurrogateLoss, surrogate_class
from .tokens import (
    NgramSurrogate,
    PrefixNgramSurrogate,
    TokenCrossEntropy,
    TokenErrorProbability,
    TokenSurrogate,
    TransformerTokenSurrogate,
)

__all__ = [
    "NgramSurrogate",
    "PrefixNgramSurrogate",
    "SurrogateLoss",
    "TokenCrossEntropy",
    "TokenErrorProbability",
    "TokenSurrogate",
    "TransformerTokenSurrogate",
    "surrogate_class",
]
