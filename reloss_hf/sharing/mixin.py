"""Adds sharing on the hub, with a card, to a class that can be saved to a folder."""

import tempfile
from pathlib import Path

from .hub import read_card, upload
from .model_card import CARD_NAME, write_model_card


class HubMixin:
    """Adds `push_to_hub` to a class that has `save_pretrained` and the attributes of `model_card.Described`."""

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
        """Upload the files of `save_pretrained` and a model card in one commit. Make the repository if it is missing.

        Args:
            repo_id: the name of the repository, such as `"me/reloss-sacrebleu-en-de"`.
            private: whether a new repository is private; by default the setting of the account.
            token: a token that may write; by default the one that `hf auth login` stored.
            revision: the branch, which is made if it is missing; by default `main`.
            commit_message: the message of the commit.
            card: the text of a card to merge the measurements into; by default the card in the repository, if any.

        Returns:
            The address of the repository.

        Raises:
            ValueError: the upload failed and changed nothing in the repository. Repeat it.
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
