"""Trainers that learn a surrogate of the metric on the way, then train on it instead of cross-entropy."""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, extract_model_from_parallel
from torch.utils.data import BatchSampler, DataLoader
from transformers import Seq2SeqTrainer, Trainer

from .callback import ReLossCallback
from .checkpoints import PREDICTIONS_FOLDER, SURROGATE_FOLDER, RunState
from .learner import SurrogateLearner
from .learning.metrics import LoadedGroupMetric
from .learning.predictions import Predictions
from .learning.store import PredictionStore
from .metrics import MetricLike
from .origin import training_origin
from .preparation import given_surrogate, make_learner
from .report import LearningReport
from .surrogate import SurrogateLoss, weighted_mean
from .tasks import TASKS, Candidate, Task, task_for, task_of_batch
from .tasks.models import as_in_evaluation, takes
from .training_args import ReLossArguments

logger = logging.getLogger(__name__)


class ReLossMixin:
    """What makes a `Trainer` a ReLoss trainer. All arguments of the `Trainer` hold; these are added.

    Args:
        metric: the metric to be learned: an `evaluate` module, its name or path, a sacrebleu metric, a function
            `(predictions, references) -> float`, or a `GroupMetric`. Pass None to train without learning a surrogate.
        metric_key: which number of the metric's result, where it has several.
        lower_is_better: for error rates.
        surrogate: a `SurrogateLoss`, or the folder or hub id of a learned one. Pass None to learn one of `metric` on
            the way. Where `metric` is None too, the loss is the task's `default_loss`, of which nothing is learned:
            `NgramSurrogate()` for text, `AnswersCrossEntropy()` for questions.
        surrogate_dataset: what the model decodes where `surrogate_predictions="generate"`; by default
            `eval_dataset`. Best a slice of the training data that is not trained on.
        task: the name of the task, such as `"question_answering"`. By default the class of the model tells it, or,
            where transformers does not know that class, the outputs and labels of the first batch.

    Attributes:
        task: the `Task` of the model; None until the first batch where that has to tell it.
        surrogate: the surrogate, given or learned; None before it is learned, and where it was refused.
        learner: the `SurrogateLearner`, where there is something to learn.
        surrogate_report: the `LearningReport` of the one learned on the way.
        predictions: the `Predictions` collected so far by this process.
    """

    def __init__(
        self,
        *arguments,
        metric: LoadedGroupMetric | MetricLike | None = None,
        metric_key: str | None = None,
        lower_is_better: bool = False,
        surrogate: SurrogateLoss | str | Path | None = None,
        surrogate_dataset: Any = None,
        task: str | None = None,
        **keywords,
    ):
        if keywords.get("compute_loss_func") is not None:
            raise ValueError("compute_loss_func= would never be called: pass surrogate=, or use a plain Trainer")
        if metric is None and (metric_key is not None or lower_is_better):
            raise ValueError(f"{metric_key=} and {lower_is_better=} are of a metric, but metric=None: pass metric=")
        super().__init__(*arguments, **keywords)
        if not isinstance(self.args, ReLossArguments):
            raise TypeError(
                f"args is a {type(self.args).__name__}: pass ReLossTrainingArguments or ReLossSeq2SeqTrainingArguments"
            )
        # compute_loss returns the mean of a micro-batch, and training_step weighs it. Several models claim to scale by
        # num_items_in_batch and do not (huggingface/transformers#47688).
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False

        self._warn_of_incomparable_losses()
        self._metric = metric, metric_key, lower_is_better
        self._given = surrogate
        self.surrogate_dataset = surrogate_dataset if surrogate_dataset is not None else self.eval_dataset
        self.task: Task | None = None
        self.learner: SurrogateLearner | None = None
        self._store = PredictionStore(self.args.surrogate_snapshot_size, self.args.process_index, self.args.world_size)
        self._begin()
        found = task_for(self.model, task)
        if found is not None:
            self._settle(found)
        if not any(isinstance(callback, ReLossCallback) for callback in self.callback_handler.callbacks):
            self.add_callback(ReLossCallback)
            self.reloss_callback.on_init_end(self.args, self.state, self.control)

    @property
    def reloss_callback(self) -> ReLossCallback:
        """The one that decides; `restore_callback_states_from_checkpoint` puts another in its place."""
        return next(found for found in self.callback_handler.callbacks if isinstance(found, ReLossCallback))

    @property
    def predictions(self) -> Predictions:
        return self._store.predictions()

    @property
    def surrogate_in_force(self) -> bool:
        """Whether the loss is the surrogate at this step."""
        return self.surrogate is not None and self.reloss_callback.should_switch(self.args, self.state)

    def _inner_training_loop(self, *arguments, **keywords):
        self._begin()  # auto_find_batch_size begins again with each smaller batch
        try:
            return super()._inner_training_loop(*arguments, **keywords)
        finally:
            self._batch_weight = None

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        weight = torch.zeros((), device=self.args.device)
        for inputs in batches:
            self._know_task(self.model, inputs)
            self.task.require_labels(inputs)
            weight += self.task.weight(inputs).to(weight)
        self._batch_weight = self.accelerator.gather(weight).sum()
        return batches, items

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.state.train_batch_size = self._train_batch_size  # a checkpoint brings that of its own run
        if self._learns:
            if self.reloss_callback.should_learn(self.args, self.state):
                self.learn_surrogate()
            elif self.args.surrogate_predictions == "generate" and self._collects():
                self._collect_generated(model)
        if self._batch_weight is not None:
            share = self.task.weight(inputs).to(self._batch_weight) / self._batch_weight.clamp(min=1)
            self._micro_batch_scale = share * self.current_gradient_accumulation_steps * self.args.world_size
        try:
            return super().training_step(model, inputs, num_items_in_batch)
        finally:
            self._micro_batch_scale = None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Cross-entropy, or the surrogate: the mean over the micro-batch; in a training step, scaled so that the mean
        over all micro-batches and processes is that over the whole batch."""
        self._know_task(model, inputs)
        self.task.require_labels(inputs)
        if not self.surrogate_in_force:
            loss, outputs = self._base_loss(model, inputs)
            if model.training:
                tracked = {self._base_name: loss, "surrogate_in_force": torch.zeros_like(loss)}
                self._track(tracked, self.task.weight(inputs))
                if self.args.surrogate_predictions == "forced" and self._collects():
                    self._collect_forced(self.task.with_logits(model, outputs, inputs), inputs)
        else:
            loss, outputs = self._surrogate_loss(model, inputs)
        if self._micro_batch_scale is not None:
            loss = loss * self._micro_batch_scale
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, *arguments, **keywords):
        """As the base method, which hands what it is given to the model where a batch has no labels."""
        if not self.label_names or any(inputs.get(name) is None for name in self.label_names):
            inputs = self._without_our_columns(inputs) if self.task is None else self.task.for_model(inputs)
        return super().prediction_step(model, inputs, *arguments, **keywords)

    def learn_surrogate(self) -> None:
        """Learn from the predictions collected so far, on one process for all. Where that fails, or the surrogate
        orders held-out predictions no better than cross-entropy does, warn once and stay on cross-entropy."""
        self._learns = False
        everything = self._store.gather()
        self._save_predictions(everything)
        outcome = [self._learn(everything.predictions()) if self.accelerator.is_main_process else None]
        broadcast_object_list(outcome)
        surrogate, self.surrogate_report, objection = outcome[0]
        if everything.skipped and self.is_world_process_zero():
            logger.warning("%d predictions with NaN or infinite scores were left out", everything.skipped)
        self.surrogate = surrogate.to(self.args.device) if objection is None else None
        if objection is not None and self.is_world_process_zero():
            logger.warning("Training stays on %s: %s", self.task.default_surrogate.base_loss_name, objection)
        if self.surrogate_report is not None:
            self.log(
                {
                    "surrogate_spearman": self.surrogate_report.spearman,
                    "surrogate_spearman_within": self.surrogate_report.spearman_within,
                    f"{self._base_name}_spearman": self.surrogate_report.spearman_cross_entropy,
                    f"{self._base_name}_spearman_within": self.surrogate_report.spearman_cross_entropy_within,
                    "surrogate_learning_seconds": self.surrogate_report.seconds,
                }
            )

    def log(self, logs, start_time=None):
        if "loss" in logs:
            for name, (total, weights) in self._tracked.items():
                total, weights = self.accelerator.gather(torch.stack([total, weights.to(total)])).view(-1, 2).sum(0)
                logs[name] = (total / weights.clamp(min=1)).item()
            self._tracked = {}
        super().log(logs, start_time)

    def save_model(self, output_dir=None, _internal_call=False):
        folder = Path(output_dir or self.args.output_dir)
        is_checkpoint = _internal_call and output_dir is not None  # and not a push
        keeps_state = is_checkpoint and self.learner is not None and not self.args.save_only_model
        store = self._store.gather() if keeps_state else None
        if self.args.should_save:
            if self.surrogate is not None:
                self.surrogate.save_pretrained(folder / SURROGATE_FOLDER)
            elif is_checkpoint:  # that an earlier run wrote under the same name
                shutil.rmtree(folder / SURROGATE_FOLDER, ignore_errors=True)
            if store is not None:
                self._save_predictions(store)
                RunState(self._learns, self.surrogate_report).save(folder, store)
        super().save_model(output_dir, _internal_call)

    def push_surrogate_to_hub(self, repo_id: str, **keywords) -> str | None:
        """Upload the surrogate alone, from the main process: `SurrogateLoss.push_to_hub`, with its keywords.

        Returns:
            The address of the repository; None on other processes.

        Raises:
            ValueError: there is no surrogate, or the upload failed.
        """
        if self.surrogate is None:
            raise ValueError("there is no surrogate to push: none was given, and none learned so far or it was refused")
        if not self.is_world_process_zero():
            return None
        account = {"token": self.args.hub_token, "private": self.args.hub_private_repo}
        return self.surrogate.push_to_hub(repo_id, **account | keywords)

    def _push_from_checkpoint(self, checkpoint_folder):
        folder = Path(checkpoint_folder) / SURROGATE_FOLDER
        if self.is_world_process_zero() and folder.is_dir():
            shutil.copytree(folder, Path(self.args.output_dir) / SURROGATE_FOLDER, dirs_exist_ok=True)
        super()._push_from_checkpoint(checkpoint_folder)

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        columns = [name for task in ([self.task] if self.task else TASKS) for name in task.columns]
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, *columns]))

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.learner is not None:
            self._load_state(Path(checkpoint))

    @property
    def _base_name(self) -> str:
        """Of the loss before the switch, in logs."""
        return self.task.default_surrogate.base_loss_name.replace("-", "_").replace(" ", "_")

    def _know_task(self, model, inputs) -> None:
        if self.task is None:
            with as_in_evaluation(model):
                outputs = model(**self._without_our_columns(inputs))
            self._settle(task_of_batch(self.model, outputs, inputs))
        self.task.meet(model, inputs)

    def _without_our_columns(self, inputs):
        ours = {name for task in TASKS for name in task.columns}
        return {name: value for name, value in inputs.items() if name not in ours and takes(self.model, name)}

    def _settle(self, task: type[Task]) -> None:
        """Make what depends on the task: all that can be refused is refused here, before the first step."""
        self.task = task(self.model, self.processing_class)
        self.data_collator = self.task.collator(self.data_collator)
        self.label_names = self.label_names or list(task.labels)  # of a class whose name does not tell the Trainer
        metric, metric_key, lower_is_better = self._metric
        self._given = self.surrogate = given_surrogate(self, self._given, metric)
        if self.surrogate is None and self.args.surrogate_start is not None:
            self.learner = make_learner(self, metric, metric_key, lower_is_better)
            self._learns = True

    def _begin(self) -> None:
        """Forget an earlier run of this trainer. What a checkpoint holds is loaded later."""
        self.surrogate = self._given if self.task is not None else None
        self.surrogate_report: LearningReport | None = None
        self._learns = self.learner is not None
        self._store.clear()
        self._tracked: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._batch_weight: torch.Tensor | None = None
        self._micro_batch_scale: torch.Tensor | None = None

    def _warn_of_incomparable_losses(self) -> None:
        name = self.args.metric_for_best_model
        if name in ("loss", "eval_loss") and self.args.surrogate_start:
            logger.warning(
                "metric_for_best_model=%r compares cross-entropy before the switch with the surrogate after it: name "
                "the metric that compute_metrics returns",
                name,
            )

    def _learn(self, predictions: Predictions) -> tuple[SurrogateLoss | None, LearningReport | None, str | None]:
        """The surrogate, the report, and why it should not be used, if so."""
        try:
            report = self.learner.learn(predictions)
        except Exception as error:  # raised on one process, it would leave the others waiting
            return None, None, f"no surrogate could be learned: {error}"
        forced = self.args.surrogate_predictions == "forced"
        dataset = self.train_dataset if forced else self.surrogate_dataset
        self.learner.surrogate.info["training"] = training_origin(self.model, dataset, self.args)
        return self.learner.surrogate.cpu(), report, report.objection

    def _base_loss(self, model, inputs):
        def model_loss(model, inputs):
            return super(ReLossMixin, self).compute_loss(model, inputs, return_outputs=True)

        return self.task.base_loss(model_loss, model, inputs)

    def _surrogate_loss(self, model, inputs):
        share = self.args.surrogate_cross_entropy_share
        if share:
            base, outputs = self._base_loss(model, inputs)
        else:
            base, outputs = None, model(**self.task.without_labels(inputs))
        features = self.task.features(model, outputs, inputs, self.surrogate.reads)
        surrogate = self.surrogate.batch_loss(features)
        if base is None:
            base = weighted_mean(self.surrogate.cross_entropy(features).detach(), self.surrogate.weights(features))
        if model.training:
            in_force = torch.ones_like(surrogate)
            tracked = {self._base_name: base, "surrogate_loss": surrogate, "surrogate_in_force": in_force}
            self._track(tracked, self.task.weight(inputs))
        return (1 - share) * surrogate + share * base if share else surrogate, outputs

    def _collects(self) -> bool:
        return self._learns and self.reloss_callback.should_collect(self.args, self.state)

    @torch.no_grad()
    def _collect_forced(self, outputs, inputs) -> None:
        candidate = Candidate(self.reloss_callback.snapshot(self.args, self.state))
        places = self._store.reserve(candidate.id, self.task.batch_size(inputs))
        if places:
            seeds = [hash((self.args.seed, candidate.number, place)) for place in places]
            candidates = (candidate, candidate.corrupted())
            self._store.add(self.task.forced_predictions(outputs, inputs, candidates, seeds))

    def _collect_generated(self, model) -> None:
        candidate = Candidate(self.reloss_callback.snapshot(self.args, self.state))
        if self._store.seen(candidate.id):  # done in an earlier micro-batch of this step
            return
        size = min(self.args.surrogate_snapshot_size, len(self.surrogate_dataset))
        self._store.reserve(candidate.id, size)
        batches = list(BatchSampler(range(size), self.args.eval_batch_size, drop_last=False))
        mine = batches[self.args.process_index :: self.args.world_size]
        collator = self._get_collator_with_removed_columns(self.data_collator)
        model = extract_model_from_parallel(model).eval()
        for inputs in DataLoader(self.surrogate_dataset, batch_sampler=mine, collate_fn=collator):
            self.task.require_labels(inputs)
            inputs = self._prepare_inputs(inputs)
            self._store.add(self.task.generated_predictions(model, inputs, candidate, self.learner.surrogate.reads))
        model.train()

    def _track(self, values: dict[str, torch.Tensor], weight: torch.Tensor) -> None:
        for name, value in values.items():
            total, weights = self._tracked.get(name, (0, 0))
            self._tracked[name] = total + value.detach() * weight, weights + weight

    def _save_predictions(self, store: PredictionStore) -> None:
        if self.args.save_predictions and self.args.should_save and len(store):
            store.predictions().save(Path(self.args.output_dir) / PREDICTIONS_FOLDER)

    def _load_state(self, checkpoint: Path) -> None:
        if (checkpoint / SURROGATE_FOLDER).is_dir():
            self._learns = False
            self.surrogate = SurrogateLoss.from_pretrained(checkpoint / SURROGATE_FOLDER).to(self.args.device)
        state = RunState.load(checkpoint, self._store)
        if state is not None:
            self._learns, self.surrogate_report = state.learns, state.report


class ReLossTrainer(ReLossMixin, Trainer):
    __doc__ = "A `transformers.Trainer` that trains on a surrogate of the metric.\n\n" + (ReLossMixin.__doc__ or "")


class ReLossSeq2SeqTrainer(ReLossMixin, Seq2SeqTrainer):
    __doc__ = "A `transformers.Seq2SeqTrainer` that trains on a surrogate of the metric.\n\n" + (
        ReLossMixin.__doc__ or ""
    )

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None, **gen_kwargs):
        """As the base method, but the loss is the one in force also where predictions are generated."""
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
