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
        """Read the state, and the predictions into the store. Returns None for a checkpoint of a plain Trainer."""
        folder = checkpoint / STATE_FOLDER
        if not folder.is_dir():
            return None
        state = json.loads((folder / "state.json").read_text())
        store.load(folder)
        return cls(state["learns"], state["report"] and LearningReport(**state["report"]))
