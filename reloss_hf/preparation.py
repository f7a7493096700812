"""What a trainer begins with, a given surrogate or a learner, checked before any step."""

from pathlib import Path

from transformers import Trainer

from .learner import SurrogateLearner
from .metrics import GroupMetric, MetricLike
from .surrogate import SurrogateLoss


def given_surrogate(
    trainer: Trainer, surrogate: SurrogateLoss | str | Path | None, metric: GroupMetric | MetricLike | None
) -> SurrogateLoss | None:
    """The surrogate, loaded and frozen, or the task's own loss where nothing is to be learned either; None where a
    surrogate is, or training never switches.

    Raises:
        ValueError: it cannot be loaded, or the model is not one that it can be trained on.
    """
    if trainer.args.surrogate_start is None:
        return None
    if surrogate is None:
        if metric is not None or trainer.args.surrogate_class is not None:
            return None
        surrogate = trainer.task.default_loss()
    if not isinstance(surrogate, SurrogateLoss):
        surrogate = SurrogateLoss.from_pretrained(surrogate)
    if surrogate.task != trainer.task.name:
        raise ValueError(
            f"surrogate={type(surrogate).__name__} is for the task {surrogate.task!r}, but "
            f"{type(trainer.model).__name__} is a model for {trainer.task.name!r}"
        )
    if trainer.task.decodes_for(surrogate):
        _require_decoding(trainer, f"surrogate={type(surrogate).__name__}", surrogate.reads)
    return surrogate.eval().requires_grad_(False).to(trainer.args.device)


def make_learner(
    trainer: Trainer, metric: GroupMetric | MetricLike | None, metric_key: str | None, lower_is_better: bool
) -> SurrogateLearner:
    """The learner of the metric's surrogate.

    Raises:
        ValueError: the arguments, the model or the data do not allow to learn it.
    """
    args, task = trainer.args, trainer.task
    if args.surrogate_start == 0:
        raise ValueError(
            "surrogate_start=0 leaves no predictions to learn from: pass surrogate=, or a later surrogate_start"
        )
    if metric is None:
        raise ValueError(
            f"metric=None, but surrogate_class={args.surrogate_class!r} is to be learned: pass metric=, or surrogate="
        )
    if task.needs_processing_class:
        task.require_tokenizer(trainer.processing_class)
    if args.surrogate_predictions == "generate":
        _require_decoding(trainer, "surrogate_predictions='generate'")
    if not isinstance(metric, GroupMetric):
        metric = GroupMetric(metric, metric_key, lower_is_better)
    group_size = args.surrogate_group_size or task.group_size
    task.try_metric(metric, trainer.train_dataset, group_size)
    learner = SurrogateLearner(
        metric,
        args.surrogate_class or task.default_surrogate.__name__,
        group_size=group_size,
        seed=args.seed,
        progress=not args.disable_tqdm and trainer.is_world_process_zero(),
    )
    if args.surrogate_predictions == "forced" and task.decodes_for(learner.surrogate):
        raise ValueError(
            f"surrogate_class={args.surrogate_class!r} reads the model's own output: pass "
            "surrogate_predictions='generate'"
        )
    _require_examples(trainer, learner)
    return learner


def _require_decoding(trainer: Trainer, argument: str, reads: tuple[str, ...] = ()) -> None:
    trainer.task.require_generation(reads)
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ValueError(
            f"{argument} would wait for ever where the model is sharded, as processes decode unequally much: use "
            "'forced', and a surrogate that reads the scores of the target alone"
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
    if hasattr(dataset, "__len__") and len(dataset) < learner.smallest_data_set:
        raise ValueError(
            f"{name} has {len(dataset)} examples; surrogate_group_size={learner.group_size} needs at least "
            f"{learner.smallest_data_set}, to learn from some groups and be judged on others"
        )
