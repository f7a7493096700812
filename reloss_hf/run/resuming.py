"""The surrogate of a resumed run. It comes from the checkpoint; a warning says if the arguments ask for another."""

import logging
from pathlib import Path
from typing import Any

import torch

from ..surrogate import SurrogateLoss
from .checkpoints import SURROGATE_FOLDER

logger = logging.getLogger(__name__)


def checkpoint_surrogate(
    trainer: Any, checkpoint: Path, given: SurrogateLoss | None, named: bool
) -> SurrogateLoss | None:
    """The surrogate to continue with: the checkpoint's, if it holds one and no other was passed as `surrogate=`.

    Args:
        trainer: the trainer that resumes.
        checkpoint: the folder of the checkpoint.
        given: the surrogate that the arguments give without learning; None if one is to be learned.
        named: whether it was passed as `surrogate=`.
    """
    if not (checkpoint / SURROGATE_FOLDER).is_dir():
        return given
    saved = SurrogateLoss.from_pretrained(checkpoint / SURROGATE_FOLDER)
    kept, learner = _words(saved), trainer.learner
    if named:
        if not _same(saved, given):
            logger.warning("Training uses surrogate=%s and not the %s in %s", _words(given), kept, checkpoint)
        return given
    if given is not None and not _same(saved, given):
        logger.warning(
            "Training continues with the %s in %s, although metric=None now: to train on another loss, pass it as "
            "surrogate=",
            kept,
            checkpoint,
        )
    elif learner is not None and _learned_of(saved) != (learner.metric.name, learner.surrogate_name):
        logger.warning(
            "Training continues with the %s in %s. It does not learn the surrogate of metric=%r, class %s, that the "
            "arguments ask for: to learn it, start a new run from the model",
            kept,
            checkpoint,
            learner.metric.name,
            learner.surrogate_name,
        )
    return saved.to(trainer.args.device)


def _words(surrogate: SurrogateLoss) -> str:
    metric = surrogate.info.get("metric")
    return type(surrogate).__name__ + (f" learned of {metric}" if metric else "")


def _learned_of(surrogate: SurrogateLoss) -> tuple[str | None, str]:
    return surrogate.info.get("metric"), type(surrogate).__name__


def _same(left: SurrogateLoss, right: SurrogateLoss) -> bool:
    if type(left) is not type(right) or left.config != right.config:
        return False
    weights = right.state_dict()
    return all(torch.equal(value, weights[name].cpu()) for name, value in left.state_dict().items())
