"""Surrogate losses."""

from .base import Features, SurrogateLoss, surrogate_class, weighted_mean
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
    MinimumRiskLoss,
    NgramSurrogate,
    PrefixNgramSurrogate,
    TokenCrossEntropy,
    TokenErrorProbability,
    TokenSurrogate,
    TransformerTokenSurrogate,
)

__all__ = [
    "ExpectedF1Loss",
    "Features",
    "LogNgramSurrogate",
    "MinimumRiskLoss",
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
    "weighted_mean",
]
