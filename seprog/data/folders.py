"""Where a data set's files are: a folder, or a data set of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seprog.errors import InputError

ROWS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
"""How the names of files with rows of JSON end."""

TABLES = (".tsv", ".tsv.gz")
"""How the names of files with tab separated lines end."""

FILES = tuple(f"*{ending}" for ending in (*ROWS, *TABLES, ".txt", ".txt.gz"))
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


def files_of(folder: Path, endings: Sequence[str] = ROWS) -> list[Path]:
    """A folder's files at any depth, in an order that is always the same.

    Args:
        folder: As ``folder_of`` gives it; what is hidden in it is passed over.
        endings: How their names end.
    """
    found = [p for p in folder.rglob("*") if p.name.endswith(tuple(endings)) and p.is_file()]
    inside = {path: path.relative_to(folder).parts for path in found}
    return sorted(p for p in found if not any(part.startswith(".") for part in inside[p]))
