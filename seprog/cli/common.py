"""What commands open and read: the memory, the editor, lines of text."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

from rich.console import Console

from seprog.errors import InputError, MemoryFileError

if TYPE_CHECKING:
    from seprog.editor import Editor
    from seprog.memory import Memory
    from seprog.training.compute import Compute
    from seprog.types import Edit

DEFAULT_MEMORY = Path("seprog.db")
STDIN = Path("-")


def file_of(path: Path | None) -> Path | None:
    """Where ``--json`` writes; ``None`` where it prints."""
    return None if path == STDIN else path


def memory_path(given: Path | None, create: bool) -> str:
    """The memory's file.

    Args:
        given: By option or environment; ``None`` means ``seprog.db`` in the current folder.
        create: Whether the command may make the file. If not, and the default file is not there,
            the command sees an empty memory.

    Raises:
        MemoryFileError: The file was given, is not there, and may not be made.
    """
    path = given or DEFAULT_MEMORY
    if create or os.path.exists(path):  # not Path.exists, which fails where it may not look
        return str(path)
    if given is None:
        return ":memory:"
    raise MemoryFileError(
        f"There is no memory at {path}",
        "an existing file",
        "Check the path, and that you may read its folder; edit and import make new files",
    )


def open_memory(given: Path | None, create: bool = False) -> Memory:
    """The memory alone, for commands that need no model; arguments as for ``memory_path``."""
    path = memory_path(given, create)
    from seprog.memory import Memory

    return Memory(path)


def open_editor(
    memory: str | None,
    model: str | None,
    generator: Path | None,
    gate: Path | None,
    namespace: str = "default",
    device: str = "cpu",
) -> Editor:
    """The whole editor; the one place where commands load models.

    Args:
        memory: From ``memory_path``; ``None`` keeps the edits in RAM.
        model: As for ``Editor.from_pretrained``, like the others.
        generator: A folder.
        gate: A folder.
        namespace: Whose edits.
        device: Where the base model runs.
    """
    with waiting("Loading the model"):
        from transformers.utils import logging

        from seprog.editor import Editor

        logging.disable_progress_bar()
        check_device(device)
        return Editor.from_pretrained(model, memory, generator, gate, namespace, device=device)


def comparing_editor(memory: str, model: str) -> Editor:
    """An editor that tells which edits answer the same question; ``atlas`` is what ships."""
    return open_editor(memory, None if model == "atlas" else model, None, None)


def compute(device: str, threads: int, bf16: bool = True) -> Compute:
    """What options say to compute on.

    Raises:
        InputError: If the device is not there.
    """
    from seprog.training.compute import Compute

    check_device(device)
    return Compute(device=device, threads=threads, bf16=bf16)


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        InputError: It is not there.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"The device {device!r} cannot be used ({str(error).partition(chr(10))[0]})",
            "cpu, or cuda where there is a GPU",
            "Leave --device out to use the CPU; for a GPU, install the torch that fits its driver",
        ) from error


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Show, on a terminal, that something takes a moment."""
    console = Console(stderr=True)
    with console.status(f"{title} …") if console.is_terminal else nullcontext():
        yield


def check_namespace(edit: Edit, namespace: str | None) -> None:
    """Refuse an edit of another namespace than the one asked for, if one was.

    Raises:
        InputError: It belongs to another.
    """
    if namespace is not None and edit.namespace != namespace:
        raise InputError(
            f"Edit {edit.id} belongs to the namespace {edit.namespace!r}",
            f"an edit of {namespace!r}",
            f"Add --namespace {edit.namespace}, or leave it out",
        )


def open_lines(path: Path) -> AbstractContextManager[IO[str]]:
    """A UTF-8 text file, or standard input for ``-``.

    Raises:
        InputError: It cannot be opened.
    """
    if path == STDIN:
        return nullcontext(io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8"))
    try:
        return path.open(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"{str(path)!r} cannot be read ({why})", "a text file", "Check the path"
        ) from error


def read_lines(path: Path) -> list[str]:
    """The lines of a file (``-``: standard input) that are not empty.

    Raises:
        InputError: It cannot be read, or is not UTF-8.
    """
    with open_lines(path) as lines:
        try:
            return [text for line in lines if (text := line.strip().lstrip("\ufeff"))]
        except UnicodeDecodeError as error:
            raise InputError(
                f"{str(path)!r} is not UTF-8", "UTF-8 text", "Convert it to UTF-8"
            ) from error
