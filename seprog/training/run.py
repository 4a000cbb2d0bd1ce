"""The outside of a training loop: steps, progress bar, checkpoints, log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def trapezoid(step: int, steps: int, warmup: int, decay: float) -> float:
    """Learning rate factor: linear warm-up, constant, linear decay to 0 over the last part.

    Args:
        step: The step about to be taken, from 0.
        steps: Steps in all.
        warmup: Steps of warm-up.
        decay: Share of all steps that the decay takes (0 to 1).
    """
    return max(0.0, min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps)))


class Run:
    """A resumable run in a folder.

    Args:
        folder: Holds ``log.jsonl`` (one line per report) and the checkpoint.
        title: Shown beside the progress bar.
        steps: Steps in all.
        save_every: Seconds between checkpoints.
    """

    def __init__(self, folder: Path, title: str, steps: int, save_every: float = 120.0) -> None:
        self.folder, self.title, self.steps, self.save_every = folder, title, steps, save_every
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = folder / "checkpoint"
        self._shown = ""

    def each_step(self, start: int, save: Callable[[int], None]) -> Iterator[int]:
        """Count from ``start`` to the end with a progress bar, calling ``save`` now and then.

        Args:
            start: Steps already taken.
            save: Given the number of steps taken, writes a checkpoint.

        Yields:
            The step to take, from 0.
        """
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}"),
        )
        saved = time.monotonic()
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(self.title, total=self.steps, completed=start, shown="")
            for step in range(start, self.steps):
                yield step
                progress.update(task, completed=step + 1, shown=self._shown)
                if time.monotonic() - saved > self.save_every or step + 1 == self.steps:
                    save(step + 1)
                    saved = time.monotonic()

    def phase(self, what: str) -> AbstractContextManager[object]:
        """Show on a terminal that something without steps goes on."""
        console = Console(stderr=True)
        shown = console.status(f"{self.title}: {what} …") if console.is_terminal else None
        return shown or nullcontext()

    def report(self, step: int, **values: float) -> None:
        """Log values, and show them beside the bar."""
        self._shown = " ".join(f"{k} {v:.3f}" for k, v in values.items())
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
