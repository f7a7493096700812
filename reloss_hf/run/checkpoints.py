"""What a checkpoint keeps of a ReLoss run, beside the surrogate."""

import json
from dataclasses import dataclass
from pathlib import Path

from ..learning.store import PredictionStore
from ..report import LearningReport

# Must hold neither "optimizer" nor "pytorch_model_fsdp": the Trainer takes such folders for its own.
SURROGATE_FOLDER = "surrogate"
PREDICTIONS_FOLDER = "predictions"
STATE_FOLDER = "reloss_state"


@dataclass
class RunState:
    """Attributes:
    learns: whether a surrogate is still to be learned.
    report: of the one that was.
    """

    learns: bool
    report: LearningReport | None

    def save(self, checkpoint: Path, store: PredictionStore) -> None:
        """Write the state, and the predictions collected so far by all processes."""
        folder = checkpoint / STATE_FOLDER
        store.save(folder)
        report = self.report and self.report.as_dict()
        (folder / "state.json").write_text(json.dumps({"learns": self.learns, "report": report}))

    @classmethod
    def load(cls, checkpoint: Path, store: PredictionStore) -> "RunState | None":
        """The state, and the predictions into the store; None of a checkpoint that has none, as of a plain Trainer."""
        folder = checkpoint / STATE_FOLDER
        if not folder.is_dir():
            return None
        state = json.loads((folder / "state.json").read_text())
        store.load(folder)
        return cls(state["learns"], state["report"] and LearningReport(**state["report"]))
