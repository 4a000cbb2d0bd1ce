"""Query to decision: which edits apply, which nearly did, and why.

Two indexes find edits: by keys, near in meaning, and by rare words, which names are. A glance at
how they were found says which are worth reading; the pairwise scorer decides about those.

The gate follows chains: an edit that fires may lead to others that the query does not name ("the
capital of the country where Ann lives" → Ann lives in Zed → the capital of Zed). At each hop the
likeliest edit fires; then the query is read again together with what fired so far, for most of what
seemed to bear on it will no longer do so. An edit that answers the very question ends the chain.
Sees text and vectors only.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from seprog.chat import merged
from seprog.errors import UNREADABLE, FingerprintMismatch, InputError
from seprog.gate.calibration import LIKELY, Calibration
from seprog.gate.glance import Glance, Sighting
from seprog.gate.retriever import Retriever
from seprog.gate.scorer import PairScorer
from seprog.gate.shelf import Shelf
from seprog.gate.words import asked_last, cue
from seprog.text_encoder import TextEncoder
from seprog.types import Candidate, Edit, GateDecision

OUTRIGHT = 0.9
"""An edit that answers the very question with this probability, given that it bears on it at all,
needs no other after it."""


@dataclass(frozen=True)
class GateConfig:
    """How far the gate looks.

    Args:
        rank: Rank of the scorer's LoRA.
        nearest: Edits that are scored per query and hop for their keys.
        shared: Edits that are scored beside them for the rare words that they share.
        hops: Edits that may fire for one query, one after another; their prefixes have to fit
            before it.
        version: Of the format.
    """

    rank: int = 8
    nearest: int = 6
    shared: int = 4
    hops: int = 4
    version: int = 4


class ScopeGate(nn.Module):
    """Retriever, scorer and threshold.

    Args:
        encoder: The frozen sentence encoder.
        config: How far to look.
        calibration: The threshold that came with the gate; a memory may have its own.
        glance: What is worth scoring of what is found; ``None``: all of it.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        config: GateConfig | None = None,
        calibration: Calibration | None = None,
        glance: Glance | None = None,
    ) -> None:
        super().__init__()
        self.config = config or GateConfig()
        self.calibration = calibration or Calibration(LIKELY, 1.0, 0, 0, 1.0)
        self.glance = glance or Glance()
        self._encoder = [encoder]
        self.retriever = Retriever(encoder)
        self.scorer = PairScorer(encoder, self.config.rank)
        self.to(encoder.device).requires_grad_(False)

    @property
    def encoder(self) -> TextEncoder:
        """The frozen sentence encoder."""
        return self._encoder[0]

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the encoder's or the gate's weights do."""
        digest = sha256(self.encoder.fingerprint.encode())
        for tensor in self.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def keys(self, edits: Sequence[Edit]) -> np.ndarray:
        """Keys that the edits are found by, ``(edits, width)``."""
        return self.retriever.edit_keys([e.statement for e in edits])

    def shelf(self, edits: Sequence[Edit]) -> Shelf:
        """A shelf of edits that carry ids."""
        shelf = Shelf()
        if edits:
            shelf.add(edits, self.keys(edits))
        return shelf

    def decide(
        self,
        queries: Sequence[str],
        shelf: Shelf,
        threshold: float | None = None,
        hidden: Sequence[Collection[str]] | None = None,
    ) -> list[GateDecision]:
        """Which edits apply to each query.

        Of several sentences the last one, and the last question, are read by themselves as well.

        Args:
            queries: Texts.
            shelf: The edits that may fire.
            threshold: Probability above which an edit fires; ``None`` takes the gate's own.
            hidden: Per query, ids of edits that it is answered without; ``None``: with all.

        Returns:
            One decision per query.
        """
        limit = self.calibration.threshold if threshold is None else threshold
        heard = [[query, *asked_last(query)] for query in queries]
        left_out = hidden or [()] * len(queries)
        rows = [(t, ids) for texts, ids in zip(heard, left_out, strict=True) for t in texts]
        texts, out = [t for t, _ in rows], [ids for _, ids in rows]
        decisions = iter(self._followed(texts, shelf, limit, out))
        return [merged([next(decisions) for _ in own]) for own in heard]

    def _followed(
        self,
        queries: Sequence[str],
        shelf: Shelf,
        limit: float,
        hidden: Sequence[Collection[str]],
    ) -> list[GateDecision]:
        """Follow each text from edit to edit."""
        found: list[dict[str, Candidate]] = [{} for _ in queries]
        out = [set(ids) for ids in hidden]
        frontier = {row: (query, query) for row, query in enumerate(queries)}
        for hop in range(self.config.hops):
            if not frontier or not len(shelf):
                break
            frontier = self._hop(frontier, found, out, shelf, limit, hop)
        return [
            GateDecision.ranked(query, limit, c.values())
            for query, c in zip(queries, found, strict=True)
        ]

    def _hop(
        self,
        frontier: Mapping[int, tuple[str, str]],
        found: Sequence[dict[str, Candidate]],
        out: Sequence[set[str]],
        shelf: Shelf,
        limit: float,
        hop: int,
    ) -> dict[int, tuple[str, str]]:
        """Score what is near each row's text, note it, and return the texts to go on from.

        Texts come with their cues. Of each row the likeliest edit fires, if any does.
        """
        texts, cues = zip(*frontier.values(), strict=True)
        done = [out[row] | {id_ for id_, c in found[row].items() if c.fired} for row in frontier]
        pairs = [
            (row, edit)
            for row, seen in zip(frontier, self.near(texts, cues, shelf, done), strict=True)
            for edit in self.glance.worth(seen, later=hop > 0)
        ]
        if not pairs:
            return {}
        scores = self.scorer.probabilities(
            [frontier[row][0] for row, _ in pairs], [edit.statement for _, edit in pairs]
        ).tolist()
        fired: set[int] = set()
        onward: dict[int, tuple[str, str]] = {}
        for (row, edit), (scope, same) in sorted(
            zip(pairs, scores, strict=True), key=lambda scored: -scored[1][0]
        ):
            fires = scope > limit and row not in fired
            if fires or edit.id not in found[row]:
                found[row][edit.id] = Candidate(edit, scope, fires, hop, same)
            if fires:
                fired.add(row)
                if same <= OUTRIGHT * scope:
                    text = frontier[row][0]
                    onward[row] = (f"{text} {edit.statement}", cue(text, edit.statement))
        return onward

    def near(
        self,
        texts: Sequence[str],
        cues: Sequence[str],
        shelf: Shelf,
        hidden: Sequence[Collection[str]],
    ) -> list[list[Sighting]]:
        """Per text, the edits near in meaning, and those that share rare words.

        Args:
            texts: Queries, each perhaps followed by the statements that fired before.
            cues: Where words are looked up: the query, then what the last statement adds to it.
            shelf: The edits that may fire.
            hidden: Per text, ids to leave out: what fired before, say.

        Returns:
            Edits, and what they were found by; best first.
        """
        keys = self.retriever.query_keys(texts)
        return shelf.search(keys, cues, hidden, self.config.nearest, self.config.shared)

    def same_question(self, edit: Edit, shelf: Shelf) -> list[tuple[Edit, float]]:
        """Edits on the shelf that answer the very question that ``edit`` answers.

        Statements are no queries, so one may not seem to ask for the other though the other asks
        for it: those that bear on the edit and do not answer it are read the other way round, too.

        Args:
            edit: A new edit.
            shelf: The edits in force.

        Returns:
            ``(edit, probability)`` of those more likely than not, most likely first.
        """
        if not len(shelf):
            return []
        [seen] = self.near([edit.statement], [edit.statement], shelf, [{edit.id}])
        others = self.glance.worth(seen, later=False)
        if not others:
            return []
        limit = max(self.calibration.threshold, LIKELY)
        texts = [o.statement for o in others]
        scores = self.scorer.probabilities([edit.statement] * len(others), texts)
        both = scores.min(dim=1).values
        unsure = ((scores[:, 0] > LIKELY) & (both <= limit)).nonzero()[:, 0]
        if len(unsure):
            turned = [texts[i] for i in unsure.tolist()]
            scores = self.scorer.probabilities(turned, [edit.statement] * len(turned))
            both[unsure] = scores.min(dim=1).values
        same = [(o, p) for o, p in zip(others, both.tolist(), strict=True) if p > limit]
        return sorted(same, key=lambda pair: -pair[1])

    def highest(
        self,
        queries: Sequence[str],
        shelf: Shelf,
        hidden: Sequence[Collection[str]] | None = None,
    ) -> list[float]:
        """Per query, its highest first-hop score over the shelf; what calibration builds on."""
        decisions = self.decide(queries, shelf, threshold=1.0, hidden=hidden)
        return [max((c.probability for c in d.candidates), default=0.0) for d in decisions]

    def highest_of_others(self, edits: Sequence[Edit], shelf: Shelf) -> list[float]:
        """Per edit on the shelf, the highest score of another one that its own prompt is asked of.

        Edits that answer the same question are in its scope, and are not counted.
        """
        asked = [e.prompt or e.statement for e in edits]
        found = self.highest(asked, shelf, [{e.id} for e in edits])
        for i, edit in enumerate(edits):
            if found[i] > LIKELY and (same := self.same_question(edit, shelf)):
                hidden = {edit.id, *(e.id for e, _ in same)}
                [found[i]] = self.highest([asked[i]], shelf, [hidden])
        return found

    def save_pretrained(self, folder: Path) -> None:
        """Write weights, configuration and calibration."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.contiguous() for k, v in self.state_dict().items()}
        save_file(tensors, folder / "gate.safetensors")
        state = {
            "config": asdict(self.config),
            "calibration": asdict(self.calibration),
            "glance": asdict(self.glance),
            "encoder": self.encoder.fingerprint,
        }
        (folder / "gate.json").write_text(json.dumps(state, indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, folder: Path, encoder: TextEncoder | None = None) -> ScopeGate:
        """Read a gate back.

        Args:
            folder: Written by ``save_pretrained``.
            encoder: The sentence encoder; ``None`` means the one of the ``encoder`` extra.

        Raises:
            InputError: If the folder holds no gate, or one of a newer format.
            FingerprintMismatch: If the gate was trained on another encoder.
        """
        encoder = encoder or TextEncoder()
        try:
            return cls._read(folder, encoder)
        except UNREADABLE as error:
            raise InputError(
                f"{folder} holds no gate ({error})",
                "a folder with gate.json and gate.safetensors",
                "Train one with: seprog train gate",
            ) from error

    @classmethod
    def _read(cls, folder: Path, encoder: TextEncoder) -> ScopeGate:
        state = json.loads((folder / "gate.json").read_text())
        if state["config"].pop("version") > GateConfig.version:
            raise InputError(
                f"The gate in {folder} is of a newer format",
                f"at most format {GateConfig.version}",
                "Update seprog",
            )
        if state["encoder"] != encoder.fingerprint:
            raise FingerprintMismatch(
                f"The gate in {folder} was trained on the encoder {state['encoder']}",
                f"the encoder {encoder.fingerprint}",
                "Use the encoder that it was trained on, or train again: seprog train gate",
            )
        for gone in ("floor", "most"):  # of versions 2 and 3
            state["config"].pop(gone, None)
        config, calibration = GateConfig(**state["config"]), Calibration(**state["calibration"])
        gate = cls(encoder, config, calibration, Glance.of(state.get("glance", {})))
        weights = load_file(folder / "gate.safetensors")
        weights.setdefault("scorer.shared", torch.zeros(encoder.width))  # not in version 1
        gate.load_state_dict({k: v.float() for k, v in weights.items()})
        return gate
