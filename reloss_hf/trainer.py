"""Trainers that learn a surrogate of the metric during training, then train on it instead of cross-entropy."""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import Seq2SeqTrainer, Trainer

from .callback import ReLossCallback
from .learner import SurrogateLearner
from .learning.metrics import LoadedGroupMetric
from .learning.predictions import Predictions
from .metrics import MetricLike
from .report import LearningReport
from .run.arguments import require_arguments, require_no_other_loss, warn_of_incomparable_losses
from .run.first_batch import first_examples, task_of_inputs, without_our_columns
from .run.learned import Learned, learn_here
from .run.loss import Loss, surrogate_loss, whole_batch, with_loss
from .run.preparation import given_surrogate, make_learning
from .run.rehearsal import rehearse, untouched
from .run.same_examples import SliceLearning
from .run.saving import SavingMixin
from .run.snapshots import SnapshotLearning
from .run.tracking import Means
from .surrogate import SurrogateLoss
from .tasks import Task, columns_of_tasks, task_for
from .tasks.models import forked_random_state
from .training_args import require_order

logger = logging.getLogger(__name__)


class ReLossMixin(SavingMixin):
    """Turns a `Trainer`, or a subclass such as TRL's `SFTTrainer`, into a ReLoss trainer. It takes all arguments of
    that `Trainer`, and these.

    Example:
        >>> class MyTrainer(ReLossMixin, SFTTrainer): ...
        >>> @dataclass
        ... class MyArguments(ReLossArguments, SFTConfig): ...

    Args:
        metric: the metric to learn: an `evaluate` module, its name or path, a sacrebleu metric, a function
            `(predictions, references) -> float`, or a `GroupMetric`. Pass None to train without learning a surrogate.
        metric_key: which number of the metric's result to learn, if it has several.
        metric_options: settings of the metric, such as `{"lowercase": True}`.
        lower_is_better: whether lower values of the metric are better. Pass None to decide by its name.
        surrogate: a `SurrogateLoss`, or the folder or hub id of a learned one. Pass None to learn one from `metric`
            during training. If `metric` is None too, the trainer uses the task's `default_loss` and learns nothing:
            `NgramSurrogate()` for text, `AnswersCrossEntropy()` for questions.
        surrogate_dataset: the data to learn a surrogate from, best a slice of the training data that the model is not
            trained on. A model of classes, tags or pixels, or a reader that may abstain, predicts it at the switch; the
            default is a share of `train_dataset`, which the trainer then takes out of the training data. With
            `surrogate_predictions="generate"` the model decodes it; the default is then `eval_dataset`.
        task: the name of the task, such as `"question_answering"`. By default the class of the model tells it. If
            transformers does not know that class, the outputs and labels of the first examples tell it.

    Attributes:
        task: the `Task` of the model. It is None until the first batch if only that batch tells the task.
        surrogate: the surrogate, given or learned. It is None before one is learned, and if it was refused.
        learner: the `SurrogateLearner`; None if there is nothing to learn.
        surrogate_report: the `LearningReport` of the surrogate that was learned during training.
        predictions: the `Predictions` that this process has collected so far.
    """

    def __init_subclass__(cls, **keywords):
        super().__init_subclass__(**keywords)
        require_order(cls, ReLossMixin, Trainer)

    def __init__(
        self,
        *arguments,
        metric: LoadedGroupMetric | MetricLike | None = None,
        metric_key: str | None = None,
        metric_options: dict[str, Any] | None = None,
        lower_is_better: bool | None = None,
        surrogate: SurrogateLoss | str | Path | None = None,
        surrogate_dataset: Any = None,
        task: str | None = None,
        **keywords,
    ):
        if keywords.get("compute_loss_func") is not None:
            raise ValueError("a ReLoss trainer never calls compute_loss_func=: pass surrogate=, or use a plain Trainer")
        if metric is None and (metric_key is not None or lower_is_better or metric_options):
            raise ValueError(
                f"{metric_key=}, {metric_options=} and {lower_is_better=} describe a metric, but metric=None: pass "
                "metric= too"
            )
        require_arguments(type(self), keywords.get("args", arguments[1] if len(arguments) > 1 else None))
        super().__init__(*arguments, **keywords)
        # compute_loss returns the mean of a micro-batch, and training_step weights it. Several models claim to scale
        # by num_items_in_batch but do not (huggingface/transformers#47688).
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False

        self._metric = metric, metric_key, lower_is_better, metric_options
        self._surrogate_argument = surrogate
        self.given_surrogate_dataset = surrogate_dataset
        self.surrogate_dataset = surrogate_dataset if surrogate_dataset is not None else self.eval_dataset
        self._task: Task | None = None
        self._given: SurrogateLoss | None = None
        self.learning: SnapshotLearning | SliceLearning | None = None
        warn_of_incomparable_losses(self.args)
        self._begin()
        found, first = task_for(self.model, task), None
        if found is None:
            first = first_examples(self)
            found = first and task_of_inputs(self, first)
        if found is not None:
            self._settle(found, first)
        if not any(isinstance(callback, ReLossCallback) for callback in self.callback_handler.callbacks):
            self.add_callback(ReLossCallback)
            self.reloss_callback.on_init_end(self.args, self.state, self.control)

    @property
    def task(self) -> Task | None:
        if self._task is not None and self._task.model is not self.model:  # model_init builds a new model each run
            self._task = self._task.of(self.model)
        return self._task

    @property
    def learner(self) -> SurrogateLearner | None:
        return self.learning and self.learning.learner

    @property
    def surrogate_report(self) -> LearningReport | None:
        return self.learning and self.learning.report

    @property
    def predictions(self) -> Predictions:
        return self.learning.predictions if self.learning else Predictions.concatenate([])

    @property
    def reloss_callback(self) -> ReLossCallback:
        """The callback that decides when to switch. `restore_callback_states_from_checkpoint` replaces it."""
        return next(found for found in self.callback_handler.callbacks if isinstance(found, ReLossCallback))

    @property
    def surrogate_in_force(self) -> bool:
        """Whether this step trains on the surrogate."""
        return self.surrogate is not None and self.reloss_callback.should_switch(self.args, self.state)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        weight = torch.zeros((), device=self.args.device)
        for inputs in batches:
            self._require_task(self.model, inputs)
            self.task.require_labels(inputs)
            weight += self.task.weight(inputs).to(weight)
        if batches and not self._rehearsed and self.args.surrogate_start is not None:
            rehearse(self, batches[0])
        self._rehearsed = True
        self._batch_weight = self.accelerator.gather(weight).sum()
        self._batches, self._whole_batch = batches, whole_batch(self, batches)
        return batches, items

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.state.train_batch_size = self._train_batch_size  # a checkpoint sets it to the value of its own run
        if self.learning is not None:
            learned = self.learning.before_step(model)
            if learned is not None:
                self._use(learned)
                self._whole_batch = whole_batch(self, self._batches)
        if self._batch_weight is not None:
            share = self.task.weight(inputs).to(self._batch_weight) / self._batch_weight.clamp(min=1)
            self._micro_batch_scale = share * self.current_gradient_accumulation_steps * self.args.world_size
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        finally:
            self._micro_batch_scale = None
        if self._asked == 0:
            self._asked = -1
            logger.warning(
                "%s overrides compute_loss and does not call super().compute_loss(): the surrogate is never used",
                type(self).__name__,
            )
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss before the switch, or the surrogate: the mean over the micro-batch. A training step scales it, so
        that the mean over all micro-batches and processes equals the mean over the whole batch."""
        self._require_task(model, inputs)
        self.task.require_labels(inputs)
        self._asked += 1
        if self.surrogate_in_force:
            found = self.surrogate_loss(model, inputs, self.surrogate)
        else:
            collects = model.training and self.learning is not None and self.learning.reads_outputs
            found = self.base_loss(model, inputs, return_outputs or (collects and self._base_gives_outputs))
            if collects:
                self.learning.after_forward(self.outputs_to_collect(model, inputs, found.outputs), inputs)
        if model.training:
            self._means.add(found.logs, self.task.weight(inputs))
        loss = found.loss if self._micro_batch_scale is None else found.loss * self._micro_batch_scale
        return (loss, found.outputs) if return_outputs else loss

    def base_loss(self, model, inputs, with_outputs: bool = True) -> Loss:
        """The loss of a micro-batch before the switch.

        If `compute_loss` is not the Trainer's own, only its loss is used, because it may fuse the model's head with the
        loss. A second forward pass then gives the outputs, if they are needed.
        """
        base_gives = with_outputs and self._base_gives_outputs

        def of_model(model, model_inputs):
            found = super(ReLossMixin, self).compute_loss(model, model_inputs, return_outputs=base_gives)
            if base_gives or not with_outputs:
                return found if base_gives else (found, None)
            outputs = self.task.with_logits(model, model(**self.task.without_labels(inputs)), inputs)
            return found, with_loss(outputs, found, None)

        loss, outputs = self.task.base_loss(of_model, model, inputs)
        if hasattr(outputs, "keys"):
            self._output_names = list(outputs)
        return Loss(loss, outputs, {self.task.base_loss_key: loss, "surrogate_in_force": torch.zeros_like(loss)})

    @torch.no_grad()
    def outputs_to_collect(self, model, inputs, outputs: Any = None) -> Any:
        """The outputs that predictions are made from: the given ones, or those of a forward pass that does not change
        the random state."""
        if outputs is None and self._base_gives_outputs:
            outputs = self.base_loss(model, inputs).outputs
        elif outputs is None:
            with forked_random_state():
                outputs = model(**self.task.without_labels(inputs))
        return self.task.with_logits(model, outputs, inputs)

    @property
    def _base_gives_outputs(self) -> bool:
        """Whether the base class uses the Trainer's own `compute_loss`, which returns the outputs too."""
        return super().compute_loss.__func__ is Trainer.compute_loss

    def surrogate_loss(self, model, inputs, surrogate: SurrogateLoss) -> Loss:
        """The loss of a micro-batch after the switch, with its share of the loss before the switch."""
        base = self.base_loss(model, inputs) if self.args.surrogate_cross_entropy_share else None
        whole = self._whole_batch if model.training else None
        found = surrogate_loss(
            self.task, model, inputs, surrogate, self.args.surrogate_cross_entropy_share, base, whole
        )
        found.outputs = with_loss(found.outputs, found.loss, self._output_names)
        return found

    def prediction_step(self, model, inputs, *arguments, **keywords):
        """As the base method, but without our columns if a batch has no labels: the model gets the whole batch then."""
        if self.task is not None and self.args.label_names is None:
            self.label_names = list(self.task.labels_in(inputs)) or self.label_names
        if not self.label_names or any(inputs.get(name) is None for name in self.label_names):
            inputs = without_our_columns(self.model, inputs) if self.task is None else self.task.for_model(inputs)
        return super().prediction_step(model, inputs, *arguments, **keywords)

    def learn_surrogate(self) -> None:
        """Learn from the predictions collected so far. The main process learns for all. If learning fails, or if the
        surrogate orders held-out predictions no better than cross-entropy does, warn once and stay on cross-entropy."""
        self._use(self.learning.learn())

    def log(self, logs, start_time=None):
        if "loss" in logs:
            logs |= self._means.take(self.accelerator)
        super().log(logs, start_time)

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        ours = self._task.columns if self._task else columns_of_tasks()
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, *ours]))

    def _inner_training_loop(self, *arguments, **keywords):
        self._begin()  # auto_find_batch_size starts the loop again with each smaller batch
        try:
            output = super()._inner_training_loop(*arguments, **keywords)
            if self.learning is not None:
                self.learning.finish(self.model)
            return output
        finally:
            self._batch_weight = None

    def _begin(self) -> None:
        """Forget an earlier run of this trainer. A checkpoint is loaded later."""
        self.surrogate = self._given
        if self.learning is not None:
            self.learning.begin()
        self._rehearsed = False
        self._asked = 0  # how often compute_loss was called
        self._output_names: list[str] | None = None
        self._means = Means()
        self._batch_weight: torch.Tensor | None = None
        self._batches: list = []
        self._whole_batch: torch.Tensor | None = None
        self._micro_batch_scale: torch.Tensor | None = None

    def _require_task(self, model, inputs) -> None:
        if self._task is None:
            self._settle(task_of_inputs(self, inputs), inputs)
        if not self.task.has_met:
            with untouched(model):
                self.task.meet(model, inputs)

    def _settle(self, task: type[Task], inputs: Any) -> None:
        """Set up what depends on the task and on inputs. Errors are found here, before the first step."""
        if task.computes_base_loss:
            require_no_other_loss(self.args, task.hand_made[0].base_loss_name, super().compute_loss)
        self._task = task(self.model, self.processing_class)
        self.data_collator = self.task.collator(self.data_collator)
        if inputs is None and task.learns_from_candidates(task.default_surrogate):
            inputs = first_examples(self)
        if inputs is not None:
            with untouched(self.model):
                self._task.meet(self.model, inputs)
        self.label_names = self.label_names or list(task.labels)  # the class name may not tell the Trainer
        self._given = self.surrogate = given_surrogate(self, self._surrogate_argument, self._metric[0])
        learns = self._metric[0] is not None or self.args.surrogate_class is not None
        if self._given is None and learns and self.args.surrogate_start is not None:
            self.learning = make_learning(self, *self._metric)

    def _learn(self, *evidence: Any) -> tuple[SurrogateLoss | None, LearningReport | None, str | None]:
        """The surrogate, its report, and the objection to its use, if there is one."""
        return learn_here(self.learner, *evidence)

    def _use(self, learned: Learned) -> None:
        self.surrogate = learned.surrogate.to(self.args.device) if learned.objection is None else None
        if learned.objection is not None and self.is_world_process_zero():
            logger.warning("Training stays on %s: %s", self.task.base_loss_name, learned.objection)
        if learned.report is not None:
            self.log(learned.report.as_logs(self.task.base_loss_key))


class ReLossTrainer(ReLossMixin, Trainer):
    __doc__ = "A `transformers.Trainer` that trains on a surrogate of the metric.\n\n" + (ReLossMixin.__doc__ or "")


class ReLossSeq2SeqTrainer(ReLossMixin, Seq2SeqTrainer):
    __doc__ = "A `transformers.Seq2SeqTrainer` that trains on a surrogate of the metric.\n\n" + (
        ReLossMixin.__doc__ or ""
    )

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None, **gen_kwargs):
        """As the base method, but with the surrogate's loss once it is in force, even if predictions are generated."""
        loss, predictions, labels = super().prediction_step(
            model, inputs, prediction_loss_only, ignore_keys=ignore_keys, **gen_kwargs
        )
        if (
            self.args.predict_with_generate
            and not prediction_loss_only
            and loss is not None
            and self.surrogate_in_force
        ):
            with torch.no_grad():
                loss = self.compute_loss(model, self._prepare_inputs(inputs)).detach()
        return loss, predictions, labels
