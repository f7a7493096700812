"""Learns one surrogate, at the switch, from the predictions that were collected along the run."""

import copy
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch.utils.data import BatchSampler, DataLoader

from ..learner import SurrogateLearner
from ..learning.predictions import Predictions
from ..learning.store import PredictionStore
from ..surrogate import SurrogateLoss
from ..tasks import Candidate
from .checkpoints import RunState
from .learned import Learned, learn_for_all, save_predictions

logger = logging.getLogger(__name__)


class SnapshotLearning:
    """Stores predictions `surrogate_snapshots` times, and learns once, at the start of the surrogate.

    Args:
        trainer: the trainer. Its callback decides when to store and to learn.
        learner: the learner of the surrogate.

    Attributes:
        learns: whether a surrogate is still to be learned.
        report: the report on the surrogate that was learned; None if none was.
    """

    def __init__(self, trainer: Any, learner: SurrogateLearner):
        self.trainer, self.learner = trainer, learner
        args = trainer.args
        self.store = PredictionStore(args.surrogate_snapshot_size, args.process_index, args.world_size)
        self.begin()

    def begin(self) -> None:
        """Forget an earlier run."""
        self.learns, self.report = True, None
        self.store.clear()

    @property
    def predictions(self) -> Predictions:
        return self.store.predictions()

    @property
    def reads_outputs(self) -> bool:
        """Whether to make predictions from the outputs for the current batch."""
        return self.trainer.args.surrogate_predictions == "forced" and self._collects

    def before_step(self, model: torch.nn.Module) -> Learned | None:
        """The surrogate that was learned before this step; None if none was."""
        trainer = self.trainer
        if self.learns and trainer.reloss_callback.should_learn(trainer.args, trainer.state):
            return self.learn()
        if trainer.args.surrogate_predictions == "generate" and self._collects:
            self._collect_generated(model)
        return None

    def learn(self) -> Learned:
        """Learn from the predictions collected so far."""
        self.learns = False
        everything = self.store.gather()
        save_predictions(self.trainer.args, everything.predictions())
        if everything.skipped and self.trainer.is_world_process_zero():
            logger.warning("%d predictions with NaN or infinite scores were left out", everything.skipped)
        forced = self.trainer.args.surrogate_predictions == "forced"
        dataset = self.trainer.train_dataset if forced else self.trainer.surrogate_dataset
        learned = learn_for_all(self.trainer, dataset, everything.predictions())
        self.report = learned.report
        return learned

    @torch.no_grad()
    def after_forward(self, outputs: Any, inputs: dict[str, Any]) -> None:
        """Store the predictions of a batch, and corrupted copies of them."""
        candidate, task = self._candidate, self.trainer.task
        places = self.store.reserve(candidate.id, task.batch_size(inputs))
        if places:
            seeds = [hash((self.trainer.args.seed, candidate.number, place)) for place in places]
            self.store.add(task.forced_predictions(outputs, inputs, (candidate, candidate.corrupted()), seeds))

    def rehearse(self, model: torch.nn.Module, outputs: Any, inputs: dict[str, Any]) -> SurrogateLoss:
        """Predict a batch, score the predictions and learn from them, in the same way as later. Keep nothing.

        Returns:
            A surrogate that has learned nothing.
        """
        task, candidate = self.trainer.task, Candidate(0)
        with torch.no_grad():
            if self.trainer.args.surrogate_predictions == "forced":
                seeds = range(task.batch_size(inputs))
                predictions = task.forced_predictions(outputs, inputs, (candidate, candidate.corrupted()), seeds)
            else:
                dataset = self.trainer.surrogate_dataset
                rows = range(min(self.trainer.args.eval_batch_size, len(dataset)))
                (inputs,) = self._batches([rows])
                predictions = task.generated_predictions(model.eval(), inputs, candidate, self.learner.surrogate.reads)
                model.train()
        if len(predictions):
            self.learner.rehearse(predictions, task.sample_pair())
        return copy.deepcopy(self.learner.surrogate)

    def finish(self, model: torch.nn.Module) -> None:
        """Do nothing at the end of the run."""

    def save(self, checkpoint: Path | None) -> None:
        """Save into a checkpoint. All processes have to call this; those that do not write it pass None."""
        everything = self.store.gather()
        if checkpoint is not None:
            save_predictions(self.trainer.args, everything.predictions())
            RunState(self.learns, self.report).save(checkpoint, everything)

    def load(self, checkpoint: Path, has_surrogate: bool) -> None:
        """Load from a checkpoint, if it is one of a run that learned in the same way."""
        self.learns = self.learns and not has_surrogate
        state = RunState.load(checkpoint, self.store)
        if state is not None:
            self.learns, self.report = state.learns, state.report

    @property
    def _collects(self) -> bool:
        return self.learns and self.trainer.reloss_callback.should_collect(self.trainer.args, self.trainer.state)

    @property
    def _candidate(self) -> Candidate:
        return Candidate(self.trainer.reloss_callback.snapshot(self.trainer.args, self.trainer.state))

    def _collect_generated(self, model: torch.nn.Module) -> None:
        trainer, candidate = self.trainer, self._candidate
        if self.store.seen(candidate.id):  # an earlier micro-batch of this step has done it
            return
        size = min(trainer.args.surrogate_snapshot_size, len(trainer.surrogate_dataset))
        self.store.reserve(candidate.id, size)
        batches = list(BatchSampler(range(size), trainer.args.eval_batch_size, drop_last=False))
        mine = batches[trainer.args.process_index :: trainer.args.world_size]
        model = extract_model_from_parallel(model).eval()
        for inputs in self._batches(mine):
            self.store.add(trainer.task.generated_predictions(model, inputs, candidate, self.learner.surrogate.reads))
        model.train()

    def _batches(self, rows: Sequence[Sequence[int]]) -> Iterator[dict[str, Any]]:
        trainer = self.trainer
        collator = trainer._get_collator_with_removed_columns(trainer.data_collator)
        for inputs in DataLoader(trainer.surrogate_dataset, batch_sampler=rows, collate_fn=collator):
            trainer.task.require_labels(inputs)
            yield trainer._prepare_inputs(inputs)
