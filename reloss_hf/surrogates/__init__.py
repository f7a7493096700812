"""Surrogate losses."""

from .base import SurrogateLoss, surrogate_class
from .spans import (
    ExpectedF1Loss,
    OverlapSurrogate,
    SharpenedF1Surrogate,
    SpanCrossEntropy,
    SpanSurrogate,
    SpanSurrogateMLP,
)
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
    "ExpectedF1Loss",
    "LogNgramSurrogate",
    "NgramSurrogate",
    "OverlapSurrogate",
    "PrefixNgramSurrogate",
    "SharpenedF1Surrogate",
    "SpanCrossEntropy",
    "SpanSurrogate",
    "SpanSurrogateMLP",
    "SurrogateLoss",
    "TokenCrossEntropy",
    "TokenErrorProbability",
    "TokenSurrogate",
    "TransformerTokenSurrogate",
    "surrogate_class",
]
