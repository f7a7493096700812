"""Surrogate losses."""

from .base import Features, SurrogateLoss, surrogate_class, weighted_mean
from .spans import (
    AnswersCrossEntropy,
    AnswersSurrogate,
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
    OwnOutputSurrogate,
    PrefixNgramSurrogate,
    TokenCrossEntropy,
    TokenErrorProbability,
    TokenSurrogate,
    TransformerTokenSurrogate,
)

__all__ = [
    "AnswersCrossEntropy",
    "AnswersSurrogate",
    "ExpectedF1Loss",
    "Features",
    "LogNgramSurrogate",
    "MinimumRiskLoss",
    "NgramSurrogate",
    "OverlapSurrogate",
    "OwnOutputSurrogate",
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
