"""The state of a ReLoss run that a checkpoint keeps beside the surrogate."""

import json
from dataclasses import dataclass
from pathlib import Path

from ..learning.store import PredictionStore
from ..report import LearningReport

# These names must not contain "optimizer" or "pytorch_model_fsdp": the Trainer takes such folders for its own.
SURROGATE_FOLDER = "surrogate"
PREDICTIONS_FOLDER = "predictions"
STATE_FOLDER = "reloss_state"


@dataclass
class RunState:
    """The progress of learning.

    Attributes:
        learns: whether a surrogate is still to be learned.
        report: the report on the surrogate that was learned; None if none was.
    """

    learns: bool
    report: LearningReport | None

    def save(self, checkpoint: Path, store: PredictionStore) -> None:
        """Write the state, and the predictions that all processes have collected so far."""
        folder = checkpoint / STATE_FOLDER
        store.save(folder)
        report = self.report and self.report.as_dict()
        (folder / "state.json").write_text(json.dumps({"learns": self.learns, "report": report}))

    @classmethod
    def load(cls, checkpoint: Path, store: PredictionStore) -> "RunState | None":
        """Read the state, and the predictions into the store. Returns None if there is none; see `state_in`."""
        state = state_in(checkpoint, "learns")
        if state is None:
            return None
        store.load(checkpoint / STATE_FOLDER)
        return cls(state["learns"], state["report"] and LearningReport(**state["report"]))


def state_in(checkpoint: Path, key: str) -> dict | None:
    """The state that a checkpoint holds. None for a checkpoint of the plain Trainer, and for one of a run that learns
    in another way, whose state has no such key."""
    path = checkpoint / STATE_FOLDER / "state.json"
    state = json.loads(path.read_text()) if path.is_file() else {}
    return state if key in state else None
