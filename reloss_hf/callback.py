"""Decides when to collect predictions, to learn the surrogate and to replace cross-entropy."""

import logging
import math

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

logger = logging.getLogger(__name__)


class ReLossCallback(TrainerCallback, ExportableState):
    """Decides from the step alone when to collect, learn and switch.

    To decide otherwise, subclass it and pass an instance in `callbacks=`:

        >>> class Late(ReLossCallback):
        ...     def should_collect(self, args, state):
        ...         return super().should_collect(args, state) and state.epoch > 1

    `global_step` is the number of steps done, so a decision holds for the next step.

    Attributes:
        start_step: the first step on the surrogate. It is None until training begins, and if no surrogate is used.
    """

    start_step: int | None = None
    _surrogate_start: float | None = None

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.start_step = 0 if args.surrogate_start == 0 else None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        start, saved = args.surrogate_start, self._of_checkpoint(state)
        if saved is not None and saved["surrogate_start"] == start:
            self.start_step = saved["start_step"]  # even if the resumed run is longer
        elif start is None or start >= 1:
            self.start_step = start if start is None else int(start)
        else:
            self.start_step = math.ceil(start * state.max_steps)
            nothing_collected = saved is None or saved["start_step"] is None  # as in a run of the plain Trainer
            if nothing_collected and 0 < self.start_step <= state.global_step:
                self.start_step = state.global_step + math.ceil(start * (state.max_steps - state.global_step))
        self._surrogate_start = start
        # The Trainer saves only the callbacks that it had at the start, and a checkpoint may hold another callback's.
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        if self.start_step is None or self.start_step < state.max_steps:
            return
        if start >= 1:
            raise ValueError(
                f"surrogate_start={start} lies beyond the run, which has {state.max_steps} steps: pass a smaller step, "
                "a fraction below 1, or None to stay on cross-entropy"
            )
        logger.warning(
            "No surrogate will be learned or used: surrogate_start=%s is the end of a run of %d steps",
            start,
            state.max_steps,
        )

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if self.start_step is not None and state.global_step < min(self.start_step, state.max_steps):
            logger.warning(
                "No surrogate was learned or used: training stopped after step %d, and the surrogate would have "
                "started at step %d",
                state.global_step,
                self.start_step,
            )

    def state(self) -> dict:
        """The state that a checkpoint keeps."""
        return {"args": {}, "attributes": {"start_step": self.start_step, "surrogate_start": self._surrogate_start}}

    def snapshot(self, args: TrainingArguments, state: TrainerState) -> int:
        """The number of the snapshot that the next step belongs to, from 0. The `surrogate_snapshots` divide the run up
        to the start of the surrogate."""
        return state.global_step * self._snapshots(args) // self.start_step

    def should_collect(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Whether predictions of the next step's batches are stored.

        They are stored at the end of every snapshot. `forced` predictions are stored in as many steps as fill the
        snapshot, `generate` predictions in one step.
        """
        if not self.start_step or state.global_step >= self.start_step:
            return False
        end = math.ceil((self.snapshot(args, state) + 1) * self.start_step / self._snapshots(args))
        examples = state.train_batch_size * args.gradient_accumulation_steps * args.world_size
        steps = math.ceil(args.surrogate_snapshot_size / examples) if args.surrogate_predictions == "forced" else 1
        return state.global_step >= end - steps

    def should_learn(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Whether to learn a surrogate before the next step, if there is none."""
        return self.should_switch(args, state)

    def should_learn_again(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Whether to learn a surrogate before the next step, for tasks that learn several times: at the start, and
        `surrogate_learn_again` times after it, evenly spread."""
        if not self.should_switch(args, state):
            return False
        times, rest = args.surrogate_learn_again + 1, state.max_steps - self.start_step
        return state.global_step in {self.start_step + rest * time // times for time in range(times)}

    def should_look(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Whether to measure the metric on the held-out examples before the next step: when a tenth of the steps after
        the switch are done."""
        return self.start_step is not None and state.global_step == self.start_step + math.ceil(
            (state.max_steps - self.start_step) / 10
        )

    def should_switch(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Whether the next step trains on the surrogate, if there is one."""
        return self.start_step is not None and state.global_step >= self.start_step

    def _of_checkpoint(self, state: TrainerState) -> dict | None:
        """The state in the checkpoint that training is resumed from, under the name of any subclass."""
        if state.global_step == 0:
            return None
        kept = [saved["attributes"] for saved in state.stateful_callbacks.values() if isinstance(saved, dict)]
        return next((attributes for attributes in kept if "surrogate_start" in attributes), None)

    def _snapshots(self, args: TrainingArguments) -> int:
        return min(args.surrogate_snapshots, self.start_step)
