"""What makes a thing that can be saved to a folder one that can be shared on the hub, with a card."""

import tempfile
from pathlib import Path

from .hub import read_card, upload
from .model_card import CARD_NAME, write_model_card


class HubMixin:
    """Adds `push_to_hub` to a class that has `save_pretrained` and what `model_card.Described` names."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str = "Upload surrogate",
        card: str | None = None,
    ) -> str:
        """Upload what `save_pretrained` writes and a model card, in one commit; the repository is made where it is
        missing.

        Args:
            repo_id: such as `"me/reloss-sacrebleu-en-de"`.
            private: whether a new repository is private; by default as the account is set.
            token: one that may write; by default the one that `hf auth login` stored.
            revision: the branch, made where it is missing; by default `main`.
            commit_message: of the commit.
            card: the text of a card that what was measured is merged into; by default that in the repository, if any.

        Returns:
            The address of the repository.

        Raises:
            ValueError: the upload failed. The repository holds what it held before; repeat it.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            card = read_card(repo_id, revision, token) if card is None else card
            if card is not None:
                (Path(folder) / CARD_NAME).write_text(card, encoding="utf-8")
            write_model_card(self, folder, repo_id)
            return upload(
                folder, repo_id, private=private, token=token, revision=revision, commit_message=commit_message
            )
