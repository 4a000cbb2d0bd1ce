"""What editing and answering cost beside time, and what editing does to other text."""

from __future__ import annotations

import ctypes
import gc
import math
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import psutil
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from seprog.lm import LanguageModel

EVERY = 0.002
"""Seconds between two looks at the process' memory."""


def flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and attentions in a call, backward too."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def editing(write: Callable[[], Any], edits: int, device: torch.device) -> dict[str, Any]:
    """What writing so many edits costs: arithmetic per edit, and memory."""
    with PeakMemory(device) as memory:
        done = flops(write)
    return {
        "flops_per_edit": {"value": done / edits, "n": edits},
        "peak_bytes_editing": {"value": memory.bytes, "n": edits},
    }


class PeakMemory:
    """The most memory that was held within a ``with`` block, above what was held before.

    On a GPU what the allocator gave out; else what of the process lay in memory, looked at every
    two milliseconds, so that what is held for less may be missed. What was let go before is given
    back first, where the C library can, so that it is counted when it is taken again.

    Args:
        device: Where the model is.
    """

    bytes: int
    """The peak, once the block is left (>= 0)."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> PeakMemory:
        """Begin to look."""
        self._process, self._left = psutil.Process(), threading.Event()
        gc.collect()
        if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:  # glibc
            trim(0)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._before = self._peak = self._held()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look for the last time."""
        self._left.set()
        self._watcher.join()
        if self.device.type == "cuda":
            self._peak = torch.cuda.max_memory_allocated(self.device)
        self.bytes = max(0, max(self._peak, self._held()) - self._before)

    def _held(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return int(self._process.memory_info().rss)

    def _watch(self) -> None:
        while self.device.type != "cuda" and not self._left.wait(EVERY):
            self._peak = max(self._peak, self._held())


def perplexity(
    lm: LanguageModel,
    said: Sequence[tuple[str, str]],
    logits: Callable[[Sequence[str]], Float[Tensor, "batch time vocab"]],
) -> float:
    """How little a model expects what is said (>= 1): the exponential of its mean loss per token.

    Args:
        lm: The model whose tokens are read.
        said: Prompts, and what goes on with each; only the latter's tokens count.
        logits: From texts to their logits, padded on the left.
    """
    loss, count = 0.0, 0
    for start in range(0, len(said), 32):
        part = said[start : start + 32]
        texts = [prompt + more for prompt, more in part]
        own = lm.tokens.encode([prompt for prompt, _ in part], True)
        rows = lm.tokens.encode(texts, True)
        for row, prompt, found in zip(rows, own, logits(texts), strict=True):
            new = row[len(prompt) :]
            ids = torch.tensor(new, device=found.device)
            expected = found[-len(new) - 1 : -1].float()
            loss += torch.nn.functional.cross_entropy(expected, ids, reduction="sum").item()
            count += len(new)
    return math.exp(loss / max(1, count))
