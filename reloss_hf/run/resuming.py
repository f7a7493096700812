"""The surrogate of a run that is resumed: that of the checkpoint, and a word where the arguments say otherwise."""

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
    """The surrogate to go on with: the checkpoint's where it holds one, unless another was passed as `surrogate=`.

    Args:
        trainer: that is resumed.
        checkpoint: its folder.
        given: the surrogate that the arguments lead to without learning; None where one is to be learned.
        named: whether it was passed as `surrogate=`.
    """
    if not (checkpoint / SURROGATE_FOLDER).is_dir():
        return given
    saved = SurrogateLoss.from_pretrained(checkpoint / SURROGATE_FOLDER)
    kept, learner = _words(saved), trainer.learner
    if named:
        if not _same(saved, given):
            logger.warning("surrogate=%s is used, and not the %s that %s holds", _words(given), kept, checkpoint)
        return given
    if given is not None and not _same(saved, given):
        logger.warning(
            "Training goes on with the %s that %s holds, although metric=None now: to train on another loss, pass it "
            "as surrogate=",
            kept,
            checkpoint,
        )
    elif learner is not None and _learned_of(saved) != (learner.metric.name, learner.surrogate_name):
        logger.warning(
            "Training goes on with the %s that %s holds; the surrogate of metric=%r of the class %s that the arguments "
            "ask for is not learned: to learn it, begin a new run from the model",
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
