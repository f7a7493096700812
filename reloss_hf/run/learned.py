"""Learns on one process for all and shares the result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments

from ..learner import CandidateLearner, SurrogateLearner
from ..learning.predictions import Predictions
from ..report import LearningReport
from ..surrogate import SurrogateLoss
from .checkpoints import PREDICTIONS_FOLDER
from .origin import training_origin


@dataclass
class Learned:
    """The result of learning.

    Attributes:
        surrogate: the surrogate; None if none could be learned.
        report: its report; None if none could be learned.
        objection: why the surrogate should not be used; None if it should.
    """

    surrogate: SurrogateLoss | None
    report: LearningReport | None
    objection: str | None


def learn_for_all(trainer: Any, dataset: Any, *evidence: Any) -> Learned:
    """Learn on the main process and send the result to every process. A failure becomes an objection, because an error
    on one process would leave the others waiting.

    Args:
        trainer: the trainer that learns. It knows the processes, the model and the arguments.
        dataset: the data set of the predictions, for the card.
        evidence: what the learner learns from, predictions first. Only that of the main process counts.
    """
    outcome = [trainer._learn(*evidence) if trainer.accelerator.is_main_process else None]
    broadcast_object_list(outcome)
    learned = Learned(*outcome[0])
    if learned.surrogate is not None:
        learned.surrogate.info["training"] = training_origin(trainer.model, dataset, trainer.args)
    return learned


def save_predictions(args: TrainingArguments, predictions: Predictions, name: str = "predictions") -> None:
    """Write the collected predictions for the command line, if the arguments ask for it."""
    if args.save_predictions and args.should_save and len(predictions):
        predictions.save(Path(args.output_dir) / PREDICTIONS_FOLDER, name)


def learn_here(
    learner: SurrogateLearner | CandidateLearner, *evidence: Any
) -> tuple[SurrogateLoss | None, LearningReport | None, str | None]:
    """Learn on this process; returns the fields of `Learned`."""
    try:
        report = learner.learn(*evidence)
    except Exception as error:
        return None, None, f"no surrogate could be learned: {error}"
    return learner.surrogate.cpu(), report, report.objection


def forget_predictions(args: TrainingArguments, name: str) -> None:
    """Remove what an earlier run saved in the same folder under names that begin like this."""
    if args.save_predictions and args.should_save:
        for path in (Path(args.output_dir) / PREDICTIONS_FOLDER).glob(f"{name}-*.safetensors"):
            path.unlink()
