"""The nouns that every part of seprog shares. No model code, no storage code.

``Prefix`` is the only one that holds tensors; everything else is plain, frozen data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Edit:
    """One correction.

    Args:
        statement: The sentence that states the correction ("The capital of Australia is Sydney.").
            It is what the generator reads and what the gate compares queries with.
        prompt: The question or sentence start that the edit answers, if it was given that way.
        target: The answer to ``prompt``.
        subject: Subject of the triple, if the edit was given as one.
        relation: Relation of the triple.
        object: Object of the triple.
        namespace: Tenant; an edit never fires for a query in another namespace.
        author: Who wrote it. ``None`` means unknown.
        reason: Why. ``None`` means not given.
        id: Unique id, given by the memory when the edit is added; empty before.
        created_at: Seconds since the epoch (UTC), given by the memory; 0 before.
        supersedes: Id of the edit that this one replaced, if any.
        active: Whether the edit is in force (neither forgotten nor superseded).
    """

    statement: str
    prompt: str | None = None
    target: str | None = None
    subject: str | None = None
    relation: str | None = None
    object: str | None = None
    namespace: str = "default"
    author: str | None = None
    reason: str | None = None
    id: str = ""
    created_at: float = 0.0
    supersedes: str | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """Shape of one attention site: how many key/value heads, and how wide each is."""

    kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True)
class PrefixSpec:
    """What a prefix for a given base model looks like; read from the loaded model.

    Args:
        sites: One entry per attention site, in layer order.
    """

    sites: tuple[SiteSpec, ...]

    def bytes_per_token(self, element_size: int) -> int:
        """Bytes that one virtual token takes, with ``element_size`` bytes per number."""
        return sum(2 * site.kv_heads * site.head_dim * element_size for site in self.sites)


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """Keys and values of P virtual tokens in every attention site, for one query.

    Args:
        keys: Per site, ``(kv_heads, P, head_dim)``.
        values: Per site, ``(kv_heads, P, head_dim)``.
    """

    keys: tuple[Float[Tensor, "kv_heads prefix head_dim"], ...]
    values: tuple[Float[Tensor, "kv_heads prefix head_dim"], ...]

    def __len__(self) -> int:
        """The number of virtual tokens."""
        return int(self.keys[0].shape[1])

    def to(self, device: torch.device) -> Prefix:
        """The same on a device."""
        return Prefix(
            tuple(k.to(device) for k in self.keys), tuple(v.to(device) for v in self.values)
        )

    @staticmethod
    def join(prefixes: Sequence[Prefix]) -> Prefix:
        """Several edits' prefixes as one: their virtual tokens side by side."""
        if len(prefixes) == 1:
            return prefixes[0]
        sites = range(len(prefixes[0].keys))
        return Prefix(
            tuple(torch.cat([p.keys[s] for p in prefixes], dim=1) for s in sites),
            tuple(torch.cat([p.values[s] for p in prefixes], dim=1) for s in sites),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PrefixBatch:
    """Prefixes for some rows of a batch; the rows that are not named have none.

    Args:
        rows: Indices of the in-scope rows in the batch, strictly increasing, length R (R >= 1).
        keys: Per site, ``(R, kv_heads, P, head_dim)``; shorter prefixes are padded on the left.
        values: Per site, like ``keys``.
        mask: ``(R, P)``, true where a virtual token is real.
    """

    rows: tuple[int, ...]
    keys: tuple[Float[Tensor, "rows kv_heads prefix head_dim"], ...]
    values: tuple[Float[Tensor, "rows kv_heads prefix head_dim"], ...]
    mask: Bool[Tensor, "rows prefix"]

    @staticmethod
    def stack(prefixes: Sequence[Prefix | None]) -> PrefixBatch | None:
        """One entry per row of the batch; ``None`` rows stay out. ``None`` if all are."""
        rows = tuple(i for i, p in enumerate(prefixes) if p is not None)
        chosen = [p for p in prefixes if p is not None]
        if not chosen:
            return None
        longest = max(len(p) for p in chosen)

        def pad(x: Tensor) -> Tensor:  # (kv_heads, P, head_dim) -> (kv_heads, longest, head_dim)
            return torch.nn.functional.pad(x, (0, 0, longest - x.shape[1], 0))

        sites = range(len(chosen[0].keys))
        mask = torch.stack([torch.arange(longest) >= longest - len(p) for p in chosen])
        return PrefixBatch(
            rows,
            tuple(torch.stack([pad(p.keys[s]) for p in chosen]) for s in sites),
            tuple(torch.stack([pad(p.values[s]) for p in chosen]) for s in sites),
            mask.to(chosen[0].keys[0].device),
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """An edit that the gate looked at, and how likely it bears on the query (0 to 1)."""

    edit: Edit
    probability: float
    fired: bool
    hop: int = 0
    """0 if the query itself led to the edit, n if the chain of n fired edits did."""
    same: float = 0.0
    """How likely it answers the very question that was asked (0 to 1)."""


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Which edits apply to a query, and which nearly did.

    An edit above the threshold that does not fire was passed over for a likelier one, and what was
    asked no longer called for it, or was answered, then.

    Args:
        query: The text that was judged.
        threshold: Probability from which an edit fires; at 1, nothing does.
        candidates: Everything that was scored, most likely first.
    """

    query: str
    threshold: float = 1.0
    candidates: tuple[Candidate, ...] = ()

    @staticmethod
    def ranked(query: str, threshold: float, candidates: Iterable[Candidate]) -> GateDecision:
        """A decision of candidates in any order: those that fired first, then by probability."""
        order = sorted(candidates, key=lambda c: (not c.fired, -c.probability))
        return GateDecision(query, threshold, tuple(order))

    @property
    def fired(self) -> tuple[Edit, ...]:
        """The edits that apply, in the order in which the chain reached them."""
        return tuple(c.edit for c in sorted(self.candidates, key=lambda c: c.hop) if c.fired)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, and which edits it said it by."""

    query: str
    text: str
    decision: GateDecision
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Example:
    """Edits, a prompt, and the answer wanted.

    Args:
        edits: Statements of the edits whose prefixes are joined, in any order.
        prompt: What is asked.
        answer: The right answer; ``None`` if the base model's own is wanted.
        kind: Where it comes from; only for reports.
        keep: Whether ``answer`` is the base model's own, which must stay.
    """

    edits: tuple[str, ...]
    prompt: str
    answer: str | None
    kind: str = "example"
    keep: bool = False
