"""The scope gate: which edits bear on a query."""

from seprog.gate.calibration import (
    Calibration,
    fit_threshold,
    kept_as,
    require_enough,
    wilson,
)
from seprog.gate.gate import GateConfig, ScopeGate
from seprog.gate.glance import Glance, Sighting, fit_glance
from seprog.gate.shelf import Overlay, Shelf, interleave
from seprog.gate.shelves import Shelves
from seprog.gate.words import WordIndex, cue

__all__ = [
    "Calibration",
    "GateConfig",
    "Glance",
    "Overlay",
    "ScopeGate",
    "Shelf",
    "Shelves",
    "Sighting",
    "WordIndex",
    "cue",
    "fit_glance",
    "fit_threshold",
    "interleave",
    "kept_as",
    "require_enough",
    "wilson",
]
