"""Prepares a given surrogate, or the learning of one, and checks it before the first step."""

import logging
import math
from collections.abc import Sized
from pathlib import Path
from typing import Any

from transformers import Trainer

from ..learner import CandidateLearner, SurrogateLearner, learner_for, surrogate_to_learn
from ..learning.metrics import LoadedGroupMetric
from ..metrics import GroupMetric, MetricLike
from ..surrogate import SurrogateLoss, surrogate_classes
from ..tasks import CandidateTask
from .checkpoints import SURROGATE_FOLDER
from .held_out import held_out_slice, label_table
from .rehearsal import untouched
from .same_examples import SliceLearning
from .snapshots import SnapshotLearning

logger = logging.getLogger(__name__)


def given_surrogate(
    trainer: Trainer, surrogate: SurrogateLoss | str | Path | None, metric: GroupMetric | MetricLike | None
) -> SurrogateLoss | None:
    """The given surrogate, loaded and frozen. Without a surrogate and a metric it is the task's default loss. None if a
    surrogate is to be learned, or if training never switches.

    Raises:
        ValueError: the surrogate cannot be loaded, or the model cannot be trained on it.
    """
    if trainer.args.surrogate_start is None:
        return None
    if surrogate is None:
        if metric is not None or trainer.args.surrogate_class is not None:
            return None
        if trainer.task.default_loss is None:
            logger.warning(
                "metric=None and surrogate=None: training stays on %s. Pass metric= to learn a loss, or surrogate= to "
                "train on one",
                trainer.task.base_loss_name,
            )
            return None
        surrogate = trainer.task.default_loss()
    if not isinstance(surrogate, SurrogateLoss):
        surrogate = _load(surrogate)
    if surrogate.task != trainer.task.name:
        raise ValueError(
            f"surrogate={type(surrogate).__name__} is for the task {surrogate.task!r}, but the task of "
            f"{type(trainer.model).__name__} is {trainer.task.name!r}: pass a surrogate for that task"
        )
    if trainer.task.reads_own_output(surrogate):
        _require_decoding(trainer, f"surrogate={type(surrogate).__name__}", surrogate.reads)
    with untouched(trainer.model):  # rows may be drawn at random
        trainer.task.fit(surrogate, trainer.train_dataset)
    return surrogate.eval().requires_grad_(False).to(trainer.args.device)


def make_learning(
    trainer: Trainer,
    metric: LoadedGroupMetric | MetricLike | None,
    metric_key: str | None,
    lower_is_better: bool | None,
    metric_options: dict[str, Any] | None,
) -> SnapshotLearning | SliceLearning:
    """Prepare the learning of a surrogate of the metric.

    If learning takes a slice of the training data, the slice is taken out of `trainer.train_dataset`.

    Raises:
        ValueError: the arguments, the model or the data do not allow learning.
    """
    args, task = trainer.args, trainer.task
    if args.surrogate_start == 0:
        raise ValueError(
            "surrogate_start=0 leaves no predictions to learn from: pass surrogate=, or a later surrogate_start="
        )
    if metric is None:
        raise ValueError(
            f"surrogate_class={args.surrogate_class!r} cannot be learned, as metric=None: pass metric=, or surrogate="
        )
    if task.needs_processing_class:
        task.require_tokenizer(trainer.processing_class)
    if args.surrogate_predictions == "generate":
        _require_decoding(trainer, "surrogate_predictions='generate'")
    if isinstance(task, CandidateTask) and not isinstance(metric, LoadedGroupMetric):
        metric_options = task.metric_options(metric, metric_options or {})
    metric = _group_metric(metric, metric_key, lower_is_better, metric_options)
    surrogate = surrogate_to_learn(task, metric, args.surrogate_class)
    task.try_metric(metric, trainer.train_dataset, args.surrogate_group_size or task.group_size_for(surrogate))
    learner = learner_for(
        task,
        metric,
        args.surrogate_class,
        args.surrogate_group_size,
        args.seed,
        progress=not args.disable_tqdm and trainer.is_world_process_zero(),
    )
    return (_slice_learning if isinstance(learner, CandidateLearner) else _snapshot_learning)(trainer, learner)


def _slice_learning(trainer: Trainer, learner: CandidateLearner) -> SliceLearning:
    args, task = trainer.args, trainer.task
    if task.generates_slice:
        _require_decoding(trainer, f"surrogate_class={learner.surrogate_name!r}")
    if trainer.given_surrogate_dataset is not None:
        held_out = trainer.given_surrogate_dataset
        name = "surrogate_dataset"
    else:
        trainer.train_dataset, held_out = held_out_slice(
            trainer.train_dataset, task, args.surrogate_held_out_share, args.seed
        )
        if type(trainer)._get_train_sampler is not Trainer._get_train_sampler:
            logger.warning(
                "%s has a sampler of its own: it draws from train_dataset without the held-out rows. Pass "
                "surrogate_dataset= to keep all rows",
                type(trainer).__name__,
            )
        name = f"the slice by surrogate_held_out_share={args.surrogate_held_out_share}"
    if not isinstance(held_out, Sized) or not hasattr(held_out, "__getitem__") or isinstance(held_out, dict | str):
        raise ValueError(
            f"surrogate_dataset={type(held_out).__name__} is not one data set with a length and rows: pass a "
            "datasets.Dataset, or another of that kind"
        )
    if len(held_out) < learner.smallest_data_set:
        raise ValueError(
            f"{name} has {len(held_out)} examples, and at least {learner.smallest_data_set} are needed to learn from "
            "some and judge by others: pass a larger share, or surrogate_dataset="
        )
    task.require_slice(label_table(held_out, task))
    return SliceLearning(trainer, learner, held_out)


def _snapshot_learning(trainer: Trainer, learner: SurrogateLearner) -> SnapshotLearning:
    args = trainer.args
    if args.surrogate_predictions == "forced" and trainer.task.reads_own_output(learner.surrogate):
        raise ValueError(
            f"surrogate_class={learner.surrogate_name!r} reads the model's own output: pass "
            "surrogate_predictions='generate'"
        )
    _require_examples(trainer, learner)
    return SnapshotLearning(trainer, learner)


def _load(surrogate: str | Path | type[SurrogateLoss]) -> SurrogateLoss:
    if isinstance(surrogate, type):
        raise ValueError(f"surrogate={surrogate.__name__} is a class: pass an object, surrogate={surrogate.__name__}()")
    if surrogate in surrogate_classes():
        raise ValueError(
            f"surrogate={surrogate!r} is the name of a class: pass an object, surrogate={surrogate}(), or pass "
            f"surrogate_class={surrogate!r} and metric= to learn one"
        )
    try:
        return SurrogateLoss.from_pretrained(surrogate)
    except ValueError:
        inner = Path(surrogate) / SURROGATE_FOLDER
        if not inner.is_dir():
            raise
    raise ValueError(
        f"surrogate={str(surrogate)!r} is the folder of a model, and its surrogate is in {SURROGATE_FOLDER}/: pass "
        f"surrogate={str(inner)!r}"
    )


def _group_metric(
    metric: LoadedGroupMetric | MetricLike,
    metric_key: str | None,
    lower_is_better: bool | None,
    metric_options: dict[str, Any] | None,
) -> LoadedGroupMetric:
    if not isinstance(metric, LoadedGroupMetric):
        return GroupMetric(metric, metric_key, lower_is_better, metric_options)
    if metric_key is not None or lower_is_better is not None or metric_options:
        raise ValueError(
            f"{metric_key=}, {lower_is_better=} and {metric_options=} cannot change a GroupMetric: pass them to "
            "GroupMetric(...) instead"
        )
    return metric


def _require_decoding(trainer: Trainer, argument: str, reads: tuple[str, ...] = ()) -> None:
    trainer.task.require_generation(reads)
    decodes = not reads or not set(trainer.task.decoded).isdisjoint(reads)
    if decodes and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ValueError(
            f"{argument} would never end with a sharded model, because processes decode different numbers of tokens: "
            "use 'forced', and a surrogate that reads the scores of the target alone"
        )


def _require_examples(trainer: Trainer, learner: SurrogateLearner) -> None:
    if trainer.args.surrogate_predictions == "forced":
        name, dataset = "train_dataset", trainer.train_dataset
    else:
        name, dataset = "surrogate_dataset", trainer.surrogate_dataset
        if dataset is None or isinstance(dataset, dict) or not hasattr(dataset, "__len__"):
            raise ValueError(
                f"surrogate_predictions='generate' needs one data set of known length to decode, not a "
                f"{type(dataset).__name__}: pass surrogate_dataset="
            )
    examples = trainer.task.examples_in(dataset) if hasattr(dataset, "__len__") else math.inf
    if examples < learner.smallest_data_set:
        raise ValueError(
            f"{name} has {examples} examples, but surrogate_group_size={learner.group_size} needs at least "
            f"{learner.smallest_data_set}, to learn from some groups and judge by others: pass more examples, or a "
            "smaller surrogate_group_size="
        )
