"""Atlas: a small language model that knows some thousand facts, the facts, and how it was made."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
MODEL = WEIGHTS / "model"
"""The base model."""
GENERATOR = WEIGHTS / "generator"
"""The prompt generator trained for it."""
GATE = WEIGHTS / "gate"
"""The scope gate."""
