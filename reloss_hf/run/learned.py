"""Learning on one process for all, and what comes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments

from ..learner import SurrogateLearner
from ..learning.predictions import Predictions
from ..report import LearningReport
from ..surrogate import SurrogateLoss
from .checkpoints import PREDICTIONS_FOLDER
from .origin import training_origin


@dataclass
class Learned:
    """Attributes:
    surrogate: None where none could be learned.
    report: likewise.
    objection: why the surrogate should not be used; None where it should.
    """

    surrogate: SurrogateLoss | None
    report: LearningReport | None
    objection: str | None


def learn_for_all(trainer: Any, predictions: Predictions, dataset: Any) -> Learned:
    """Learn on the main process; every process gets what was learned. A failure is an objection: raised on one process,
    it would leave the others waiting.

    Args:
        trainer: tells the processes, the model and the arguments, and learns.
        predictions: to learn from; those of the main process count.
        dataset: that they are of, for the card.
    """
    outcome = [trainer._learn(predictions) if trainer.accelerator.is_main_process else None]
    broadcast_object_list(outcome)
    learned = Learned(*outcome[0])
    if learned.surrogate is not None:
        learned.surrogate.info["training"] = training_origin(trainer.model, dataset, trainer.args)
    return learned


def save_predictions(args: TrainingArguments, predictions: Predictions, name: str = "predictions") -> None:
    """Write what was collected for the command line, where the arguments ask for it."""
    if args.save_predictions and args.should_save and len(predictions):
        predictions.save(Path(args.output_dir) / PREDICTIONS_FOLDER, name)


def learn_here(
    learner: SurrogateLearner, predictions: Predictions
) -> tuple[SurrogateLoss | None, LearningReport | None, str | None]:
    """The surrogate, its report, and why it should not be used; the fields of `Learned`."""
    try:
        report = learner.learn(predictions)
    except Exception as error:
        return None, None, f"no surrogate could be learned: {error}"
    return learner.surrogate.cpu(), report, report.objection
