"""Learns from candidates of the same held-out examples, at the switch and again after it."""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from torch.utils.data import BatchSampler

from ..learning.candidates import CandidateLearner, Change
from ..learning.predictions import Predictions
from ..report import LearningReport
from ..surrogate import SurrogateLoss
from .checkpoints import STATE_FOLDER, state_in
from .held_out import numbers_of_texts
from .learned import Learned, forget_predictions, learn_for_all, save_predictions

logger = logging.getLogger(__name__)

# How many examples of the slice are predicted before the first step.
_REHEARSED = 32


class SliceLearning:
    """Predicts a held-out slice and learns from perturbed copies of the predictions, as often as the callback says.

    A share of the slice is watched: it is kept from learning, and the metric is measured on it. All windows of one text
    are watched or none. If the metric falls after the switch by more than chance may explain, training returns to the
    loss before the switch.

    Args:
        trainer: the trainer. Its callback decides when to learn.
        learner: the learner of the surrogate.
        dataset: the slice.

    Attributes:
        report: the report on the surrogate that was learned last.
        predictions: the latest predictions of the slice, from all processes.
    """

    reads_outputs = False

    def __init__(self, trainer: Any, learner: CandidateLearner, dataset: Any):
        self.trainer, self.learner, self.dataset = trainer, learner, dataset
        parts = learner.split(numbers_of_texts(dataset, trainer.task))
        self._rows, self._watched_rows = (_by_length(dataset, rows) for rows in parts)
        self.begin()

    def begin(self) -> None:
        """Forget an earlier run."""
        self.report: LearningReport | None = None
        self.predictions = Predictions.concatenate([])
        self._times, self._learned_at, self._gave_up = 0, None, False
        self._at_switch: Predictions | None = None

    def before_step(self, model: torch.nn.Module) -> Learned | None:
        """What was learned before this step, or the objection that makes training go back; None for neither."""
        trainer, step = self.trainer, self.trainer.state.global_step
        callback = trainer.reloss_callback
        if self._gave_up or step == self._learned_at:
            return None
        if callback.should_learn_again(trainer.args, trainer.state):
            self._learned_at = step
            return self.learn(model)
        if callback.should_look(trainer.args, trainer.state) and trainer.surrogate_in_force:
            self._learned_at = step
            return self._look(self._predict(model, self._watched_rows))
        return None

    def learn(self, model: torch.nn.Module | None = None) -> Learned | None:
        """Predict the slice and learn from it."""
        model = model if model is not None else self.trainer.model
        watched = self._predict(model, self._watched_rows)
        gone_back = self._look(watched) if self.trainer.surrogate_in_force and self._at_switch else None
        if gone_back is not None:
            return gone_back
        predictions = self._predict(model, self._rows)
        self.predictions = Predictions.concatenate([predictions, watched])
        if self._times == 0:
            forget_predictions(self.trainer.args, "learning")
        save_predictions(self.trainer.args, self.predictions, f"learning-{self._times}")
        self._times += 1
        learned = learn_for_all(self.trainer, self.dataset, predictions, watched, self.trainer.surrogate)
        if learned.objection is not None and self.trainer.surrogate is not None:
            if self.trainer.is_world_process_zero():
                logger.warning("The surrogate that was learned before stays in use: %s", learned.objection)
            return None
        self.report = learned.report
        if learned.objection is None and self._at_switch is None:
            self._at_switch = watched
        return learned

    def rehearse(self, model: torch.nn.Module, outputs: Any, inputs: dict[str, Any]) -> SurrogateLoss:
        """Learn from a batch in the same way as later, and keep nothing.

        Returns:
            A surrogate that has learned nothing.
        """
        rows = range(min(_REHEARSED, len(self.dataset)))
        batches = BatchSampler(rows, self.trainer.args.eval_batch_size, drop_last=False)
        parts = [self._predict_batch(model.eval(), batch) for batch in batches]
        return self.learner.rehearse(Predictions.concatenate(parts))

    def finish(self, model: torch.nn.Module) -> None:
        """Measure the metric on the slice once more at the end of the run."""
        if self._at_switch is not None and not self._gave_up:
            self._look(self._predict(model, self._watched_rows), can_go_back=False)

    def save(self, checkpoint: Path | None) -> None:
        """Save into a checkpoint. Pass None if this process does not write it."""
        if checkpoint is None:
            return
        folder = checkpoint / STATE_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        if self._at_switch is not None:
            self._at_switch.save(folder, "switch")
        state = {
            "times": self._times,
            "learned_at": self._learned_at,
            "gave_up": self._gave_up,
            "report": self.report and self.report.as_dict(),
        }
        (folder / "state.json").write_text(json.dumps(state))

    def load(self, checkpoint: Path, has_surrogate: bool) -> None:
        """Load from a checkpoint, if it is one of a run that learned in the same way."""
        folder, state = checkpoint / STATE_FOLDER, state_in(checkpoint, "times")
        if state is None:
            return
        self._times, self._learned_at, self._gave_up = state["times"], state["learned_at"], state["gave_up"]
        self.report = state["report"] and LearningReport(**state["report"])
        if any(folder.glob("switch-*.safetensors")):
            self._at_switch = Predictions.load(folder)

    @torch.no_grad()
    def _predict(self, model: torch.nn.Module, rows: list[int]) -> Predictions:
        """Predict rows of the slice with the current model, without dropout. The processes share the work."""
        args = self.trainer.args
        batches = list(BatchSampler(rows, args.eval_batch_size, drop_last=False))
        rounds = math.ceil(len(batches) / args.world_size)
        mine = [batches[(r * args.world_size + args.process_index) % len(batches)] for r in range(rounds)]
        kept = sum(r * args.world_size + args.process_index < len(batches) for r in range(rounds))
        parts, training = [], model.training
        model.eval()
        for number, batch in enumerate(mine):
            predictions = self._predict_batch(model, batch)
            if number < kept:  # all processes predict equally many batches, since the model may be sharded
                parts.append((number * args.world_size + args.process_index, predictions))
        model.train(training)
        in_order = sorted(gather_object(parts), key=lambda part: part[0])
        return Predictions.concatenate([predictions for _, predictions in in_order])

    @torch.no_grad()
    def _predict_batch(self, model: torch.nn.Module, rows: Sequence[int]) -> Predictions:
        trainer, task = self.trainer, self.trainer.task
        collate = trainer._get_collator_with_removed_columns(trainer.data_collator)
        inputs = collate([self.dataset[row] for row in rows])
        task.require_labels(inputs)
        inputs = trainer._prepare_inputs(inputs)
        with trainer.compute_loss_context_manager():
            outputs = task.with_logits(model, model(**task.without_labels(inputs)), inputs)
        return task.predictions_to_perturb(outputs, inputs, self._times)

    def _look(self, watched: Predictions, can_go_back: bool = True) -> Learned | None:
        """Check whether the metric of the watched examples has fallen since the switch."""
        if self._at_switch.references != watched.references:
            self._at_switch = watched
            if self.trainer.is_world_process_zero():
                logger.warning(
                    "The references of the held-out examples are not those of the switch, so %s is watched from here "
                    "on alone. If the rows of the data change at random, as by crops and flips, pass "
                    "surrogate_dataset= without that; else the run was resumed with other data",
                    self.learner.metric.name,
                )
        outcome = [self._compare(watched) if self.trainer.is_world_process_zero() else None]
        broadcast_object_list(outcome)
        if outcome[0] is None:
            return None
        change = outcome[0]
        if can_go_back:  # the Trainer writes the last log at the end
            self.trainer.log({"held_out_metric": change.after, "held_out_metric_at_switch": change.before})
        if change.gain >= -change.noise:
            return None
        words = (
            f"{self.learner.metric.name} of the held-out examples became worse: {change.before:.4f} at the switch, "
            f"{change.after:.4f} now"
        )
        if not can_go_back:
            if self.trainer.is_world_process_zero():
                logger.warning("%s: the surrogate did not help; continue from a checkpoint before the switch", words)
            return None
        self._gave_up = True
        return Learned(None, None, f"{words}. Chance explains a difference of {change.noise:.4f} at most")

    def _compare(self, watched: Predictions) -> Change | None:
        try:
            found = self.learner.compare(self._at_switch, watched)
        except RuntimeError as error:
            logger.warning("The held-out examples cannot be scored, so the surrogate is not watched: %s", error)
            return None
        return found if found.is_known else None


def _by_length(dataset: Any, rows: Tensor) -> list[int]:
    """Rows of texts from long to short, so that batches have little padding. Rows of other data in their order."""
    rows = sorted(rows.tolist())
    if isinstance(dataset, datasets.Dataset) and "input_ids" in dataset.column_names:
        lengths = [len(tokens) for tokens in dataset.with_format(None)["input_ids"][:]]
        rows.sort(key=lambda row: -lengths[row])
    return rows
