"""Uploads to and downloads from the hub. One sentence tells each failure."""

from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # the error of the client underneath, requests or httpx
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# The surrogates that come with the package. Each has a folder with its name.
SHIPPED = Path(__file__).parent / "shipped"
_NO_ACCESS = "it does not exist, or is private: pass token=, or log in with `hf auth login`"


def fetch(name_or_path: str | Path, file: str, revision: str | None = None, token: str | None = None) -> Path:
    """One file of a surrogate that comes with the package, is in a folder, or is on the hub.

    Raises:
        ValueError: there is no such file.
    """
    if str(name_or_path) in {folder.name for folder in SHIPPED.iterdir()}:
        name_or_path = SHIPPED / name_or_path
    if not Path(name_or_path).is_dir():
        return download(str(name_or_path), file, revision, token)
    path = Path(name_or_path) / file
    if not path.is_file():
        raise ValueError(f"{name_or_path} holds no surrogate: it has no {file}")
    return path


def download(repo_id: str, file: str, revision: str | None = None, token: str | None = None) -> Path:
    """The local copy of one file of a repository.

    Raises:
        ValueError: the download failed. The message says why and what to do.
    """
    try:
        return Path(hf_hub_download(repo_id, file, revision=revision, token=token))
    except (OSError, HFValidationError) as error:
        raise ValueError(
            f"{repo_id!r} is no folder here, and its {file} could not be fetched from the hub: {_reason(error)}"
        ) from error


def read_card(repo_id: str, revision: str | None = None, token: str | None = None) -> str | None:
    """The `README.md` of a repository; None if the file or the repository is missing."""
    try:
        if not HfApi(token=token).file_exists(repo_id, "README.md", revision=revision):
            return None
    except (OSError, HTTPError, HFValidationError) as error:
        raise ValueError(f"README.md of {repo_id!r} could not be read: {_reason(error)}") from error
    return download(repo_id, "README.md", revision, token).read_text(encoding="utf-8")


def upload(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload surrogate",
) -> str:
    """Upload all files of the folder in one commit. Make the repository and the branch if they are missing.

    Returns:
        The address of the repository.

    Raises:
        ValueError: the upload failed and changed no file of the repository. The message says why.
    """
    api = HfApi(token=token)
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(url.repo_id, branch=revision, exist_ok=True)
        api.upload_folder(repo_id=url.repo_id, folder_path=folder, commit_message=commit_message, revision=revision)
    except (OSError, HTTPError, HFValidationError) as error:
        raise ValueError(f"the upload to {repo_id!r} failed: {_reason(error)}") from error
    return str(url)


def _reason(error: Exception) -> str:
    match error:
        case RevisionNotFoundError():
            return "it has no such branch, tag or commit: check revision="
        case RepositoryNotFoundError():
            return _NO_ACCESS
        case LocalEntryNotFoundError():
            return "the hub cannot be reached, and there is no local copy: check the connection and HF_HUB_OFFLINE"
        case EntryNotFoundError():
            return "the repository has no such file: check subfolder= and revision="
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            return "the token is missing, wrong, or may not do this: pass token=, or log in with `hf auth login`"
        case _:
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
