"""What training and measuring compute on."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Compute:
    """A device and how it multiplies; the configuration of every training is one.

    Args:
        device: Where models run: ``cpu``, ``cuda``, …
        threads: CPU threads.
        bf16: Multiply matrices in bfloat16; on a CPU quicker only where it has instructions for it.
    """

    device: str = "cpu"
    threads: int = 1
    bf16: bool = True

    def begin(self) -> None:
        """Take so many threads from now on."""
        torch.set_num_threads(self.threads)

    def autocast(self) -> torch.autocast:
        """While it is open, matrices are multiplied in bfloat16, if they are to be."""
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.bf16)
