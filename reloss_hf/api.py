"""All public names, imported from their modules."""

from .callback import ReLossCallback
from .collect import collect_predictions
from .learner import CandidateLearner, SurrogateLearner
from .learning.functional import average_rank, gradient_penalty, soft_rank, sorting_network_rank, spearman_correlation
from .learning.predictions import Predictions
from .loss_func import surrogate_loss_func
from .metrics import GroupMetric
from .report import HeldOutGroups, LearningReport
from .surrogate import SurrogateLoss
from .tasks.classification.hand_made import (
    ClassWeightedCrossEntropy,
    FocalLoss,
    LabelSmoothedCrossEntropy,
    LogitAdjustedCrossEntropy,
    SoftF1Loss,
)
from .tasks.classification.losses import ClassCosts, ClassCrossEntropy, ClassLoss, ClassProbabilityCosts, SoftCounts
from .tasks.ctc.collation import DataCollatorCTCWithPadding
from .tasks.ctc.losses import CtcCosts, CtcLoss, CtcNgramLoss, ExpectedWerLoss, FrameLoss
from .tasks.keypoints.evaluation import pose_compute_metrics
from .tasks.keypoints.hand_made import HardKeypointMining, HeatmapCrossEntropy, SoftArgmaxLoss
from .tasks.keypoints.heatmaps import decode_poses
from .tasks.keypoints.losses import (
    ExpectedMiss,
    GatedSquaredError,
    KeypointLoss,
    KeypointSquaredError,
    LogExpectedMiss,
)
from .tasks.keypoints.preparation import prepare_pose_features
from .tasks.question_answering.abstention import AbstentionCosts
from .tasks.question_answering.answers import Answer, answers_from_logits, squad_compute_metrics
from .tasks.question_answering.losses import (
    AnswersCrossEntropy,
    AnswersSurrogate,
    ExpectedF1Loss,
    OverlapSurrogate,
    SharpenedF1Surrogate,
    SpanCrossEntropy,
    SpanSurrogate,
    SpanSurrogateMLP,
)
from .tasks.question_answering.preparation import prepare_features
from .tasks.semantic_segmentation.evaluation import segmentation_compute_metrics
from .tasks.semantic_segmentation.hand_made import (
    PixelDiceLoss,
    PixelFocalLoss,
    PixelJaccardLoss,
    PixelLovaszLoss,
    PixelWeightedCrossEntropy,
)
from .tasks.semantic_segmentation.losses import PixelCosts, PixelCrossEntropy, PixelLoss, PixelSoftCounts
from .tasks.token_classification.evaluation import tagging_compute_metrics
from .tasks.token_classification.hand_made import (
    OutsideWeightedCrossEntropy,
    TagDiceLoss,
    TagFocalLoss,
    TagSoftF1Loss,
    TagWeightedCrossEntropy,
)
from .tasks.token_classification.losses import TagCosts, TagCrossEntropy, TagLoss, TagSoftCounts
from .tasks.token_classification.preparation import prepare_tagging_features, tag_names
from .tasks.token_sequence.closing import ClosingCosts, ClosingNgrams
from .tasks.token_sequence.losses import (
    DraftSurrogate,
    LogNgramSurrogate,
    MinimumRiskLoss,
    MinimumWerLoss,
    NgramSurrogate,
    OwnOutputSurrogate,
    PrefixNgramSurrogate,
    TokenCrossEntropy,
    TokenErrorProbability,
    TokenSurrogate,
    TransformerTokenSurrogate,
)
from .trainer import ReLossMixin, ReLossSeq2SeqTrainer, ReLossTrainer
from .training_args import ReLossArguments, ReLossSeq2SeqTrainingArguments, ReLossTrainingArguments

__all__ = [
    "AbstentionCosts",
    "Answer",
    "AnswersCrossEntropy",
    "AnswersSurrogate",
    "CandidateLearner",
    "ClassCosts",
    "ClassCrossEntropy",
    "ClassLoss",
    "ClassProbabilityCosts",
    "ClassWeightedCrossEntropy",
    "ClosingCosts",
    "ClosingNgrams",
    "CtcCosts",
    "CtcLoss",
    "CtcNgramLoss",
    "DataCollatorCTCWithPadding",
    "DraftSurrogate",
    "ExpectedF1Loss",
    "ExpectedMiss",
    "ExpectedWerLoss",
    "FocalLoss",
    "FrameLoss",
    "GatedSquaredError",
    "GroupMetric",
    "HardKeypointMining",
    "HeatmapCrossEntropy",
    "HeldOutGroups",
    "KeypointLoss",
    "KeypointSquaredError",
    "LabelSmoothedCrossEntropy",
    "LearningReport",
    "LogExpectedMiss",
    "LogNgramSurrogate",
    "LogitAdjustedCrossEntropy",
    "MinimumRiskLoss",
    "MinimumWerLoss",
    "NgramSurrogate",
    "OutsideWeightedCrossEntropy",
    "OverlapSurrogate",
    "OwnOutputSurrogate",
    "PixelCosts",
    "PixelCrossEntropy",
    "PixelDiceLoss",
    "PixelFocalLoss",
    "PixelJaccardLoss",
    "PixelLoss",
    "PixelLovaszLoss",
    "PixelSoftCounts",
    "PixelWeightedCrossEntropy",
    "Predictions",
    "PrefixNgramSurrogate",
    "ReLossArguments",
    "ReLossCallback",
    "ReLossMixin",
    "ReLossSeq2SeqTrainer",
    "ReLossSeq2SeqTrainingArguments",
    "ReLossTrainer",
    "ReLossTrainingArguments",
    "SharpenedF1Surrogate",
    "SoftArgmaxLoss",
    "SoftCounts",
    "SoftF1Loss",
    "SpanCrossEntropy",
    "SpanSurrogate",
    "SpanSurrogateMLP",
    "SurrogateLearner",
    "SurrogateLoss",
    "TagCosts",
    "TagCrossEntropy",
    "TagDiceLoss",
    "TagFocalLoss",
    "TagLoss",
    "TagSoftCounts",
    "TagSoftF1Loss",
    "TagWeightedCrossEntropy",
    "TokenCrossEntropy",
    "TokenErrorProbability",
    "TokenSurrogate",
    "TransformerTokenSurrogate",
    "answers_from_logits",
    "average_rank",
    "collect_predictions",
    "decode_poses",
    "gradient_penalty",
    "pose_compute_metrics",
    "prepare_features",
    "prepare_pose_features",
    "prepare_tagging_features",
    "segmentation_compute_metrics",
    "soft_rank",
    "sorting_network_rank",
    "spearman_correlation",
    "squad_compute_metrics",
    "surrogate_loss_func",
    "tag_names",
    "tagging_compute_metrics",
]
