"""Corrects what a language model knows, without touching its weights."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seprog.editor import Editor
    from seprog.errors import SeprogError
    from seprog.gate import ScopeGate
    from seprog.generator import SelfEncoder, VerbatimGenerator
    from seprog.lm import CausalLM
    from seprog.memory import Memory
    from seprog.types import Answer, Candidate, Edit, GateDecision, Prefix

_HOMES = {
    "Answer": "types",
    "Candidate": "types",
    "CausalLM": "lm",
    "Edit": "types",
    "Editor": "editor",
    "GateDecision": "types",
    "Memory": "memory",
    "Prefix": "types",
    "ScopeGate": "gate",
    "SelfEncoder": "generator",
    "SeprogError": "errors",
    "VerbatimGenerator": "generator",
}

__all__ = [
    "Answer",
    "Candidate",
    "CausalLM",
    "Edit",
    "Editor",
    "GateDecision",
    "Memory",
    "Prefix",
    "ScopeGate",
    "SelfEncoder",
    "SeprogError",
    "VerbatimGenerator",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that importing seprog costs nothing."""
    if name in _HOMES:
        return getattr(import_module(f"seprog.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'seprog' has no attribute {name!r}")
