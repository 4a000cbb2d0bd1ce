"""FEVER: claims that Wikipedia supports or refutes (Thorne et al. 2018), without their evidence.

Claims with too little evidence are left out. Claims that exclude each other come from FEVER
Symmetric (Schuster et al. 2019, arXiv 1908.05267).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seprog.data.rows import read_rows
from seprog.errors import InputError

Part = Literal["train", "calibration", "test"]
SHARES: dict[Part, float] = {"train": 0.6, "calibration": 0.1, "test": 0.3}
"""Of the pages; no page has claims in two parts."""
HOLDS = {"SUPPORTS": True, "REFUTES": False}
Sided = tuple[str, str, bool]
"""Evidence, a claim, and whether the one supports the other."""


@dataclass(frozen=True)
class Claim:
    """A claim.

    Args:
        text: A sentence.
        holds: Whether Wikipedia supports it.
        page: The page that says so.
        line: The sentence of the page.
    """

    text: str
    holds: bool
    page: str
    line: int

    def stated(self, holds: bool) -> str:
        """As an edit that says whether it holds."""
        return self.text if holds else f"It is not true that {self.text}"


@dataclass(frozen=True)
class Pair:
    """Two claims that can't both hold.

    Args:
        wrong: Does not hold, as FEVER labels it or the other.
        right: Holds, the same way.
        page: What they are about.
        line: The sentence of the page.
    """

    wrong: str
    right: str
    page: str
    line: int


@dataclass(frozen=True)
class Fever:
    """Claims and pairs of one part."""

    claims: list[Claim]
    pairs: list[Pair]


def load_fever(folder: Path) -> dict[Part, Fever]:
    """All parts.

    Args:
        folder: With ``paper_dev.jsonl`` and any of the symmetric sets (``symmetric_v0.1_full``,
            ``symmetric_v0.2_dev``, ``symmetric_v0.2_test``), as published, plain or gzipped.

    Returns:
        Per part, claims of its own pages and the pairs about them. A claim that comes with both
        labels is left out, and so is a pair of which neither is a claim of FEVER's, or whose
        claims' labels contradict the pair.

    Raises:
        InputError: If the claims are missing, or a row is none of the data set's; it names the row.
    """
    path = _find(folder, "paper_dev")
    if path is None:
        raise InputError(
            f"{folder} has no paper_dev.jsonl.gz or paper_dev.jsonl",
            "a folder with FEVER's paper_dev and, if there are, its symmetric sets",
            "Give such a folder with --data",
        )
    form = 'an object with "claim", "label" and evidence'
    claims = [c for c in read_rows(path, _claim, form) if c is not None]
    labels: dict[str, set[bool]] = defaultdict(set)
    for claim in claims:
        labels[claim.text].add(claim.holds)
    claims = list({c.text: c for c in claims if len(labels[c.text]) == 1}.values())
    sided: list[Sided] = []
    for name in ("symmetric_v0.1_full", "symmetric_v0.2_dev", "symmetric_v0.2_test"):
        if (path := _find(folder, name)) is not None:
            sided += read_rows(path, _sided, form)
    known = {claim.text: claim for claim in claims}
    part_of = _parts(sorted({c.page for c in claims}))
    found: dict[Part, Fever] = {part: Fever([], []) for part in SHARES}
    for claim in claims:
        found[part_of[claim.page]].claims.append(claim)
    for one, other in _excluding(sided):
        if (pair := _pair(one, other, known)) is not None:
            found[part_of[pair.page]].pairs.append(pair)
    return found


def _find(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{name}.jsonl.gz", folder / f"{name}.jsonl")
    return next((p for p in paths if p.exists()), None)


def _claim(row: dict[str, Any]) -> Claim | None:
    text, label = row["claim"], row["label"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the claim is no text")
    if label == "NOT ENOUGH INFO":
        return None
    _, _, page, line = row["evidence"][0][0]
    return Claim(text, HOLDS[label], str(page), int(line))


def _sided(row: dict[str, Any]) -> Sided:
    """The claim as FEVER spells it."""
    evidence = row["evidence_sentence"] if "evidence_sentence" in row else row["evidence"]
    return evidence, _untokenised(row["claim"]), HOLDS[row["label"]]


def _untokenised(claim: str) -> str:
    for mark in (".", ",", "'s", "'", "?", "!"):
        claim = claim.replace(f" {mark}", mark)
    return claim.replace("-LRB- ", "(").replace(" -RRB-", ")")


def _excluding(sided: Sequence[Sided]) -> list[tuple[str, str]]:
    """Claims of which one sentence supports one and refutes the other; each claim once."""
    by_evidence: dict[str, dict[bool, list[str]]] = defaultdict(lambda: {True: [], False: []})
    for evidence, claim, holds in dict.fromkeys(sided):
        by_evidence[evidence][holds].append(claim)
    found, seen = [], set()
    for sides in by_evidence.values():
        if len(sides[True]) == len(sides[False]) == 1:
            one, other = sides[False][0], sides[True][0]
            if one not in seen and other not in seen:
                seen |= {one, other}
                found.append((one, other))
    return found


def _pair(one: str, other: str, known: Mapping[str, Claim]) -> Pair | None:
    """Which of two claims holds, by FEVER's labels.

    The sentence that they come with does not tell: half of those sentences are made up, so that
    what holds is refuted by them.
    """
    for text, rival in ((one, other), (other, one)):
        if (claim := known.get(text)) is not None:
            if rival in known and known[rival].holds == claim.holds:
                return None
            wrong, right = (rival, text) if claim.holds else (text, rival)
            return Pair(wrong, right, claim.page, claim.line)
    return None


def _parts(pages: Sequence[str]) -> dict[str, Part]:
    order = random.Random(0).sample(pages, len(pages))
    found: dict[str, Part] = {}
    start = 0.0
    for part, share in SHARES.items():
        for page in order[round(start * len(order)) : round((start + share) * len(order))]:
            found[page] = part
        start += share
    return found
