"""Surrogate losses."""

from .base import SurrogateLoss, surrogate_class
from .tokens import (
    LogNgramSurrogate,
    NgramSurrogate,
    PrefixNgramSurrogate,
    TokenCrossEntropy,
    TokenErrorProbability,
    TokenSurrogate,
    TransformerTokenSurrogate,
)

__all__ = [
    "LogNgramSurrogate",
    "NgramSurrogate",
    "PrefixNgramSurrogate",
    "SurrogateLoss",
    "TokenCrossEntropy",
    "TokenErrorProbability",
    "TokenSurrogate",
    "TransformerTokenSurrogate",
    "surrogate_class",
]
