"""Ways to edit a causal language model, each from its paper, behind one contract.

What the project brings beside seprog itself, so that everything is measured alike.
"""

from seprog.methods.contract import EditMethod, Request
from seprog.methods.finetuning import FT, FTL, FineTuningConfig, LoRA
from seprog.methods.grace import GRACE, GraceConfig
from seprog.methods.locating import MEMIT, ROME, AlphaEdit, LocatingConfig
from seprog.methods.none import Nothing

__all__ = [
    "FT",
    "FTL",
    "GRACE",
    "MEMIT",
    "ROME",
    "AlphaEdit",
    "EditMethod",
    "FineTuningConfig",
    "GraceConfig",
    "LoRA",
    "LocatingConfig",
    "Nothing",
    "Request",
]
