"""Relational surrogate losses: train with the Hugging Face Trainer on a loss that ranks as your metric does."""

from .callback import ReLossCallback
from .collect import collect_predictions
from .functional import average_rank, gradient_penalty, soft_rank, sorting_network_rank, spearman_correlation
from .learner import SurrogateLearner
from .loss_func import surrogate_loss_func
from .metrics import GroupMetric
from .predictions import Predictions
from .report import HeldOutGroups, LearningReport
from .squad_answers import Answer, answers_from_logits, squad_compute_metrics
from .squad_features import prepare_features
from .surrogates import (
    AnswersCrossEntropy,
    AnswersSurrogate,
    ExpectedF1Loss,
    LogNgramSurrogate,
    MinimumRiskLoss,
    NgramSurrogate,
    OverlapSurrogate,
    OwnOutputSurrogate,
    PrefixNgramSurrogate,
    SharpenedF1Surrogate,
    SpanCrossEntropy,
    SpanSurrogate,
    SpanSurrogateMLP,
    SurrogateLoss,
    TokenCrossEntropy,
    TokenErrorProbability,
    TokenSurrogate,
    TransformerTokenSurrogate,
)
from .trainer import ReLossSeq2SeqTrainer, ReLossTrainer
from .training_args import ReLossSeq2SeqTrainingArguments, ReLossTrainingArguments

__version__ = "0.1.0.dev0"

__all__ = [
    "Answer",
    "AnswersCrossEntropy",
    "AnswersSurrogate",
    "ExpectedF1Loss",
    "GroupMetric",
    "HeldOutGroups",
    "LearningReport",
    "LogNgramSurrogate",
    "MinimumRiskLoss",
    "NgramSurrogate",
    "OverlapSurrogate",
    "OwnOutputSurrogate",
    "Predictions",
    "PrefixNgramSurrogate",
    "ReLossCallback",
    "ReLossSeq2SeqTrainer",
    "ReLossSeq2SeqTrainingArguments",
    "ReLossTrainer",
    "ReLossTrainingArguments",
    "SharpenedF1Surrogate",
    "SpanCrossEntropy",
    "SpanSurrogate",
    "SpanSurrogateMLP",
    "SurrogateLearner",
    "SurrogateLoss",
    "TokenCrossEntropy",
    "TokenErrorProbability",
    "TokenSurrogate",
    "TransformerTokenSurrogate",
    "answers_from_logits",
    "average_rank",
    "collect_predictions",
    "gradient_penalty",
    "prepare_features",
    "soft_rank",
    "sorting_network_rank",
    "spearman_correlation",
    "squad_compute_metrics",
    "surrogate_loss_func",
]
