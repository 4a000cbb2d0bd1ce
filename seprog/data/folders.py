"""Where a data set's files are: a folder, or a data set of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from seprog.errors import InputError

FILES = ("*.json", "*.jsonl", "*.json.gz", "*.jsonl.gz", "*.tsv", "*.tsv.gz", "*.txt", "*.txt.gz")
"""What is fetched of a data set of the Hub."""


def folder_of(given: Path) -> Path:
    """The folder with a data set's files.

    Args:
        given: A folder, or the name of a data set on the Hub ("owner/name"), whose files are
            fetched once and kept in the Hub's own cache.

    Raises:
        InputError: If there is neither, or the Hub cannot be reached.
    """
    if given.is_dir():
        return given
    name = given.as_posix()
    if given.is_absolute() or name.count("/") != 1 or name.startswith("."):
        raise InputError(
            f"There is no folder {given}",
            "a folder with the data set's files, or its name on the Hub (owner/name)",
            "Check the path",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=list(FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise InputError(
            f"{name} is no folder, and could not be fetched from the Hub ({type(error).__name__})",
            "a folder with the data set's files, or a name on the Hub that can be reached",
            "Check the name and the network, or fetch the files yourself and give their folder",
        ) from error
