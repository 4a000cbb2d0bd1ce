"""The scope gate: which edits bear on a query."""

from seprog.gate.calibration import Calibration, fit_threshold, wilson
from seprog.gate.gate import GateConfig, ScopeGate, Shelf

__all__ = ["Calibration", "GateConfig", "ScopeGate", "Shelf", "fit_threshold", "wilson"]
