"""From saved answers to figures; pure functions of data, no model needed.

All are shares of probes (0 to 1), greedy free generation, whole answers compared:

- ``rewrite``, ``paraphrase``, ``entailed``, ``composed``: the right answer in the edited world.
- ``entailed_inverse``, ``entailed_onward``: entailed probes whose answer the edit names (a fact
  turned round), and those whose answer lies beyond it (two hops, inheritance), where a data set
  asks both.
- ``superseded``, ``superseded_twice``: the answer of the newest edit, where an edit was replaced by
  another, and where that was replaced in turn.
- ``forgotten``: the very answer that the unedited base model gives, where an edit was taken back.
- ``rewrite_alias``, ``paraphrase_alias``, ``entailed_alias``, ``composed_alias``: the right answer
  or another name for it, whatever its case, articles and punctuation, where a data set says what
  else is accepted.
- ``rewrite_teacher_forced``, ``paraphrase_teacher_forced``: the answer's tokens that are likeliest,
  each behind the right ones before it, without those that close it; what many papers report, and
  no free generation.
- ``rewrite_prefers_new``, ``paraphrase_prefers_new``: the new answer is likelier than the old one,
  by the mean log-probability of their tokens; ``near_miss_prefers_true``: what is true is likelier
  than the edit's answer (Meng et al. 2022, section 3).
- ``near_miss``, ``far``: the very answer that the unedited base model gives.
- ``far_bitwise``: the same logits, bit for bit, in a batch that also holds edited rows.
- ``false_fire``: out-of-scope probes for which any edit fired.
- ``false_change``: out-of-scope probes whose answer is not the base model's.
- ``fired_rightly``: rewrite, paraphrase and entailed probes for which the edit they rest on fired.

Each has a 95 % interval. Probes that rest on the same edits stand and fall together, so what is
in scope is drawn again edit by edit (percentile bootstrap, Efron 1979); where all are right or
none, which a bootstrap can't see past, and out of scope, the interval is Wilson's.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from seprog.gate import wilson

IN_SCOPE = ("rewrite", "paraphrase", "entailed")
OUT_OF_SCOPE = ("near_miss", "far")
CHANGED = ("superseded", "superseded_twice", "forgotten")
MEANS = ("rewrite", "paraphrase", "near_miss", "far")
"""What the harmonic mean is over, as far as a data set asks it: what edits are to change, and what
they are to leave; to do nothing is 0. What is entailed stands beside it."""
RESAMPLED = 1000
"""Draws of a bootstrap."""
ALIASED = (*IN_SCOPE, "composed")
FORCED = ("rewrite", "paraphrase")
SHARES = (
    *IN_SCOPE,
    "entailed_inverse",
    "entailed_onward",
    "composed",
    *CHANGED,
    *OUT_OF_SCOPE,
    "far_bitwise",
    "false_fire",
    "false_change",
    "fired_rightly",
    *(f"{kind}_alias" for kind in ALIASED),
    *(f"{kind}_{what}" for what in ("teacher_forced", "prefers_new") for kind in FORCED),
    "near_miss_prefers_true",
)
"""What ``score`` finds, in the order of the tables."""
COSTS = (
    "training_seconds",
    "ms_per_edit",
    "ms_per_refined_edit",
    "flops_per_edit",
    "query_ratio_in_scope",
    "query_ratio_out_of_scope",
    "ms_per_query_in_scope",
    "ms_per_query_out_of_scope",
    "query_tokens_in_scope",
    "perplexity_ratio",
    "bytes_per_edit",
    "peak_bytes_editing",
    "peak_bytes_answering",
)
"""What is measured beside the answers."""


@dataclass(frozen=True)
class Record:
    """One probe, answered by one method.

    Args:
        method: Who answered.
        edits: Edits in the memory at the time.
        when: ``right_after`` its edit, ``after_all`` edits, or ``after_changes`` to some of them.
        kind: Kind of probe.
        prompt: What was asked.
        expected: The right answer; out of scope, the base model's.
        answer: What came.
        needed: Statements of the edits that the answer rests on.
        fired: Statements of the edits that fired; ``None`` where no gate decides.
        bitwise: Whether the logits were the base model's, bit for bit; ``None`` if not compared.
        age: Edits that were written after the newest one that the answer rests on; ``None`` out of
            scope, and where edits do not come one after another.
        teacher_forced: Share of the right answer's tokens that are likeliest, each behind those
            before it; ``None`` if not asked.
        likelier: Whether the right answer is likelier than the wrong one, which is the one before
            the edit or, out of scope, the edit's; ``None`` if not asked.
        accepted: Other names for the right answer; ``None`` where the data set does not say.
    """

    method: str
    edits: int
    when: str
    kind: str
    prompt: str
    expected: str
    answer: str
    needed: tuple[str, ...] = ()
    fired: tuple[str, ...] | None = None
    bitwise: bool | None = None
    age: int | None = None
    teacher_forced: float | None = None
    likelier: bool | None = None
    accepted: tuple[str, ...] | None = None

    def row(self) -> dict[str, object]:
        """As it is saved."""
        return asdict(self)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Record:
        """The reverse of ``row``; what a row says beside, such as the seed, is passed over."""
        values: dict[str, Any] = {f.name: row[f.name] for f in fields(cls) if f.name in row}
        values |= {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        return cls(**values)


def normalise(text: str) -> str:
    """An answer without the period that closes it and the space around it."""
    return text.strip().removesuffix(".").strip()


def lenient(text: str) -> str:
    """An answer in lower case, without articles and punctuation (Rajpurkar et al. 2016, SQuAD)."""
    bare = "".join(
        c if c.isalnum() else " " for c in unicodedata.normalize("NFKC", text).casefold()
    )
    return " ".join(word for word in bare.split() if word not in ("a", "an", "the"))


def names(text: str, name: str) -> bool:
    """Whether a text holds a name as whole words."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def rate(hits: Iterable[bool]) -> dict[str, float] | None:
    """A share with its 95 % Wilson interval; ``None`` without data."""
    values = list(hits)
    if not values:
        return None
    low, high = wilson(sum(values), len(values))
    return {"value": sum(values) / len(values), "low": low, "high": high, "n": len(values)}


def mean_over_edits(values: Iterable[tuple[Hashable, float]]) -> dict[str, float] | None:
    """A mean of shares with its 95 % interval over edits; ``None`` without data.

    Args:
        values: Per probe, what its edits are known by, and its share (0 to 1); a probe without
            any stands for itself.
    """
    groups: dict[Hashable, list[float]] = defaultdict(list)
    for number, (edits, value) in enumerate(values):
        groups[edits or number].append(value)
    if not groups:
        return None
    sums = np.array([sum(g) for g in groups.values()])
    counts = np.array([len(g) for g in groups.values()])
    mean = float(sums.sum() / counts.sum())
    if 0 < mean < 1 and len(groups) > 1:
        even = np.full(len(groups), 1 / len(groups))
        drawn = np.random.default_rng(0).multinomial(len(groups), even, RESAMPLED)
        low, high = np.percentile((drawn @ sums) / (drawn @ counts), [2.5, 97.5])
    else:
        low, high = wilson(mean * len(groups), len(groups))
    return {"value": mean, "low": float(low), "high": float(high), "n": int(counts.sum())}


def harmonic_mean(shares: Mapping[str, float]) -> float | None:
    """Over those of ``MEANS`` that are there; 0 if one is 0, ``None`` if none is."""
    found = [shares[name] for name in MEANS if name in shares]
    if not found or min(found) == 0:
        return 0.0 if found else None
    return len(found) / sum(1 / s for s in found)


def score(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """All metrics of one method at one time; those of the gate where one decided."""
    right = {r: normalise(r.answer) == normalise(r.expected) for r in records}
    outside = [r for r in records if r.kind in OUT_OF_SCOPE]
    inside = [r for r in records if r.kind in IN_SCOPE]
    found = {
        kind: mean_over_edits((r.needed, right[r]) for r in records if r.kind == kind)
        for kind in (*IN_SCOPE, "composed", *CHANGED)
    }
    for kind in OUT_OF_SCOPE:
        found[kind] = rate(right[r] for r in outside if r.kind == kind)
    entailed = [r for r in records if r.kind == "entailed"]
    inverse = [any(names(statement, r.expected) for statement in r.needed) for r in entailed]
    if len(set(inverse)) == 2:
        asked = [(r.needed, right[r], named) for r, named in zip(entailed, inverse, strict=True)]
        found["entailed_inverse"] = mean_over_edits((n, hit) for n, hit, named in asked if named)
        found["entailed_onward"] = mean_over_edits((n, hit) for n, hit, named in asked if not named)
    found["far_bitwise"] = rate(r.bitwise for r in records if r.bitwise is not None)
    found["false_change"] = rate(not right[r] for r in outside)
    found["false_fire"] = rate(bool(r.fired) for r in outside if r.fired is not None)
    found["fired_rightly"] = mean_over_edits(
        (r.needed, set(r.needed) <= set(r.fired)) for r in inside if r.fired is not None
    )
    for kind in ALIASED:
        found[f"{kind}_alias"] = mean_over_edits(
            (r.needed, lenient(r.answer) in map(lenient, (r.expected, *r.accepted)))
            for r in records
            if r.kind == kind and r.accepted is not None
        )
    for kind in FORCED:
        found[f"{kind}_teacher_forced"] = mean_over_edits(
            (r.needed, r.teacher_forced)
            for r in records
            if r.kind == kind and r.teacher_forced is not None
        )
        found[f"{kind}_prefers_new"] = _likelier(records, kind)
    found["near_miss_prefers_true"] = _likelier(records, "near_miss")
    return {name: value for name, value in found.items() if value is not None}


def _likelier(records: Sequence[Record], kind: str) -> dict[str, float] | None:
    asked = [r for r in records if r.kind == kind and r.likelier is not None]
    return mean_over_edits((r.needed, bool(r.likelier)) for r in asked)


def retention(records: Sequence[Record], parts: int = 10) -> dict[int, dict[str, float]]:
    """Right answers to rewrites and paraphrases by the age of the edit.

    Args:
        records: Of one method at one time.
        parts: Into how many parts, of equal length, the sequence of edits is cut.

    Returns:
        By the least age in each part that anything was asked about, its share; newest first.
    """
    found: dict[int, list[tuple[Hashable, bool]]] = defaultdict(list)
    for r in records:
        if r.kind in ("rewrite", "paraphrase") and r.age is not None:
            width, right = -(-r.edits // parts), normalise(r.answer) == normalise(r.expected)
            found[r.age // width * width].append((r.needed, right))
    return {age: s for age in sorted(found) if (s := mean_over_edits(found[age])) is not None}
