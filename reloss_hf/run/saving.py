"""Saves, pushes and resumes the surrogate of a ReLoss trainer, beside the model."""

import shutil
from pathlib import Path

from .checkpoints import SURROGATE_FOLDER
from .resuming import checkpoint_surrogate


class SavingMixin:
    """Adds the surrogate to the methods of a `Trainer` that write and read checkpoints and the hub."""

    def save_model(self, output_dir=None, _internal_call=False):
        folder = Path(output_dir or self.args.output_dir)
        is_checkpoint = _internal_call and output_dir is not None  # a push passes None
        if is_checkpoint and self.learning is not None and not self.args.save_only_model:
            self.learning.save(folder if self.args.should_save else None)
        if self.args.should_save:
            if self.surrogate is not None:
                self.surrogate.save_pretrained(folder / SURROGATE_FOLDER)
            elif is_checkpoint:  # an earlier run may have left one under the same name
                shutil.rmtree(folder / SURROGATE_FOLDER, ignore_errors=True)
        super().save_model(output_dir, _internal_call)

    def push_surrogate_to_hub(self, repo_id: str, **keywords) -> str | None:
        """Upload only the surrogate, from the main process. Takes the keywords of `SurrogateLoss.push_to_hub`.

        Returns:
            The address of the repository; None on other processes.

        Raises:
            ValueError: there is no surrogate, or the upload failed.
        """
        if self.surrogate is None:
            raise ValueError("there is no surrogate to push: pass surrogate=, or train until one is learned and used")
        if not self.is_world_process_zero():
            return None
        account = {"token": self.args.hub_token, "private": self.args.hub_private_repo}
        return self.surrogate.push_to_hub(repo_id, **account | keywords)

    def _push_from_checkpoint(self, checkpoint_folder):
        folder = Path(checkpoint_folder) / SURROGATE_FOLDER
        if self.is_world_process_zero() and folder.is_dir():
            shutil.copytree(folder, Path(self.args.output_dir) / SURROGATE_FOLDER, dirs_exist_ok=True)
        super()._push_from_checkpoint(checkpoint_folder)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.args.surrogate_start is not None:
            named = self._surrogate_argument is not None
            self.surrogate = checkpoint_surrogate(self, Path(checkpoint), self._given, named)
            if self.learning is not None:
                self.learning.load(Path(checkpoint), has_surrogate=self.surrogate is not None)
