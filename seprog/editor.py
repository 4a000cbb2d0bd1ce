"""The editor: memory, gate, generator and base model, wired together."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from seprog.batching import batches
from seprog.chat import Message, Query, check_queries, check_query, merged
from seprog.errors import InputError, MemoryFileError
from seprog.gate import Calibration, Overlay, ScopeGate, Shelf, Shelves, fit_threshold, kept_as
from seprog.gate.rivals import Rivals, Watch
from seprog.generator import PromptGenerator, VerbatimGenerator, load_generator
from seprog.lm import LanguageModel, check_label, check_spelling, load_lm
from seprog.memory import Event, ImportReport, Memory, make_edit
from seprog.text_encoder import TextEncoder
from seprog.types import Answer, Edit, GateDecision, Prefix


class Editor:
    """Corrects what a frozen language model says.

    Args:
        lm: The base model.
        gate: The scope gate.
        generator: Makes prefixes; ``None`` means the verbatim one.
        memory: The edits; ``None`` keeps them in this process only.
        namespace: Whose edits fire, and where new ones go.

    Example::

        editor = Editor.from_pretrained("path/to/model", memory="edits.db")
        editor.edit("The capital of Australia is Sydney.")
        editor.ask("What is the capital of Australia?").text
    """

    def __init__(
        self,
        lm: LanguageModel,
        gate: ScopeGate,
        generator: PromptGenerator | None = None,
        memory: Memory | None = None,
        namespace: str = "default",
    ) -> None:
        self.lm, self.gate = lm, gate
        self.generator = generator or VerbatimGenerator(lm)
        self.memory = memory or Memory(":memory:")
        self.namespace = namespace
        self._shelves = Shelves(gate)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        memory: str | Path | None = None,
        generator: str | Path | None = None,
        gate: str | Path | None = None,
        namespace: str = "default",
        dtype: str | torch.dtype | None = None,
        device: str = "cpu",
    ) -> Editor:
        """Load everything.

        Args:
            model: Folder or hub id of a causal language model, or a folder written by
                ``save_pretrained``. ``None`` means Atlas, the model that ships with seprog.
            memory: File of the edits, made if it is not there; ``None`` keeps them in RAM.
            generator: Folder of a generator trained for this model. ``None`` takes the one saved
                beside the model, if there is one, else the verbatim one, which needs no training.
            gate: Folder of a scope gate. ``None`` takes the one that ships with seprog.
            namespace: Whose edits fire.
            dtype: Type of the weights; ``None`` is float32 on a CPU and as saved elsewhere.
            device: Where base model and gate run.

        Raises:
            ModelError: If the model cannot be loaded or has no place for a prefix.
            FingerprintMismatch: If the generator was made for another model.
            MissingExtra: If the sentence encoder is not installed.
            MemoryFileError: If the memory file cannot be used.
        """
        from seprog import atlas

        path, saved = atlas.MODEL if model is None else Path(model), {}
        if (path / "editor.json").exists():
            saved = json.loads((path / "editor.json").read_text())
            path = Path(saved["model"]) if saved["model"] else atlas.MODEL
            generator = generator or Path(model or "") / "generator"
            gate = gate or Path(model or "") / "gate"
        elif generator is None and path == atlas.MODEL:
            generator = atlas.GENERATOR
        source = str(path) if model is None or saved else str(model)
        wanted = dtype or ("float32" if device == "cpu" else "auto")
        store = Memory(":memory:" if memory is None else memory)
        with ExitStack() as opened:
            opened.callback(store.close)
            lm = load_lm(source, dtype=wanted, device=device)
            found = ScopeGate.from_pretrained(
                Path(gate) if gate else atlas.GATE, TextEncoder(device=device)
            )
            maker = load_generator(Path(generator) if generator else None, lm)
            opened.pop_all()
        return cls(lm, found, maker, store, namespace)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write generator, gate and the place of the model; the memory stays in its file.

        Raises:
            InputError: If the base model was not loaded from anywhere.
        """
        from seprog import atlas

        folder, source = Path(folder), str(self.lm.model.name_or_path)
        if not source:
            raise InputError(
                "The base model was made in this process",
                "a model that was loaded from a folder or from the Hub",
                "Save it with its own save_pretrained, and load it from there",
            )
        if Path(source).is_dir():
            source = str(Path(source).resolve())
        self.generator.save_pretrained(folder / "generator")
        self.gate.save_pretrained(folder / "gate")
        state = {"model": "" if Path(source) == atlas.MODEL else source}
        (folder / "editor.json").write_text(json.dumps(state) + "\n")

    # --- write --------------------------------------------------------------------------------

    def edit(self, statement: str | None = None, **fields: Any) -> Edit:
        """Store a correction; it is in force when this returns.

        Args:
            statement: A sentence ("The capital of Australia is Sydney."), or give
            **fields: ``prompt`` and ``target``, or ``subject``, ``relation`` and ``object``; and
                ``author``, ``reason``, ``namespace``.

        Returns:
            The edit with its id. ``supersedes`` names the edit whose question it took over, if
            there was one: one with the same prompt or triple, or one that the gate finds to
            answer the same question.

        Raises:
            InputError: If the fields do not make an edit, or the model cannot spell the target.
        """
        return self.edit_many([{"statement": statement, **fields}])[0]

    def edit_many(self, rows: Sequence[dict[str, Any]]) -> list[Edit]:
        """Store several corrections in one transaction; fields as for ``edit``.

        A row may supersede one before it. Its ``supersedes`` names further ids that it replaces.
        """
        named, fresh = [self._named(row) for row in rows], [self._made(row) for row in rows]
        return self.memory.add_many(fresh, named, Rivals(self.gate, self.shelf))

    def import_rows(
        self, lines: Iterable[str], watch: Watch | None = None, **options: Any
    ) -> ImportReport:
        """Store JSON lines as ``edit_many`` does; ``options`` as for ``Memory.import_rows``."""
        rivals = Rivals(self.gate, self.shelf, watch)
        return self.memory.import_rows(lines, check=self.check, rivals=rivals, **options)

    @staticmethod
    def _named(row: Mapping[str, Any]) -> list[str]:
        """The ids that a row says it replaces."""
        ids = row.get("supersedes") or ()
        if isinstance(ids, str):
            raise InputError(f"supersedes is {ids!r}", "a list of ids", "Put the id into a list")
        return list(ids)

    def _made(self, row: Mapping[str, Any]) -> Edit:
        """The edit of a row of fields, if the model can spell it."""
        fields = {k: v for k, v in row.items() if k != "supersedes"}
        return self.check(make_edit(**{"namespace": self.namespace, **fields}))

    def check(self, edit: Edit) -> Edit:
        """The edit itself, or an ``InputError`` if the model cannot spell it, say it or hold it."""
        check_label(self.lm, edit.target)
        check_spelling(self.lm.tokenizer, edit.statement, self.lm.generates)
        [ids], room = self.lm.tokens.encode([edit.statement]), self.lm.n_positions
        if room is not None and 2 * len(ids) > room:
            raise InputError(
                f"The edit takes {len(ids)} of the {room} tokens that the model can read",
                "at most half of them, so that there is room for a question",
                "Shorten it, or write several edits",
            )
        return edit

    def rivals(self, edit: Edit) -> list[Edit]:
        """The edits in force whose place a new one takes: same prompt, triple or question."""
        found = [e for e, _ in self.gate.same_question(edit, self.shelf(edit.namespace))]
        found += self.memory.rivals(edit)
        return [e for e in dict.fromkeys(found) if e.statement != edit.statement]

    def forget(self, id_: str, author: str | None = None, reason: str | None = None) -> Edit:
        """Take an edit back; the base model's answer returns exactly."""
        return self.memory.forget(id_, author, reason)

    def restore(self, id_: str, author: str | None = None, reason: str | None = None) -> Edit:
        """Bring a forgotten or superseded edit back into force, in the place of its rivals."""
        return self.memory.restore(id_, author, reason, rivals=Rivals(self.gate, self.shelf))

    def history(self, id_: str | None = None) -> list[Event]:
        """What happened to an edit, or to all of the namespace."""
        return self.memory.history(id_, None if id_ else self.namespace)

    # --- read ---------------------------------------------------------------------------------

    def ask(self, query: str, **options: Any) -> Answer:
        """Answer one query; options as for ``generate``."""
        return self.generate([query], **options)[0]

    def generate(
        self,
        queries: Sequence[str],
        max_new_tokens: int = 32,
        namespace: str | None = None,
        threshold: float | None = None,
        edits: bool = True,
        batch: int = 64,
        **options: Any,
    ) -> list[Answer]:
        """Answer queries; each by the edits that bear on it, or by the base model alone.

        Args:
            queries: Texts.
            max_new_tokens: Longest answer.
            namespace: Whose edits may fire; ``None`` means the editor's own.
            threshold: Probability above which an edit fires; ``None`` means as calibrated.
            edits: ``False`` turns editing off.
            batch: Queries per forward pass.
            **options: For transformers' ``generate``, such as ``do_sample`` or ``num_beams``.

        Returns:
            One answer per query, in the order given.

        Raises:
            InputError: If a query is empty or too long.
        """
        start = time.perf_counter()
        check_queries(queries)
        decisions = [GateDecision(q) for q in queries]
        if edits:
            decisions = self.explain_many(queries, namespace, threshold)
        texts = self.answer(decisions, max_new_tokens, batch, **options)
        seconds = (time.perf_counter() - start) / max(1, len(queries))
        return [
            Answer(query, text.strip(), decision, seconds)
            for query, text, decision in zip(queries, texts, decisions, strict=True)
        ]

    def answer(
        self,
        decisions: Sequence[GateDecision],
        max_new_tokens: int = 32,
        batch: int = 64,
        made: Mapping[str, Prefix] | None = None,
        **options: Any,
    ) -> list[str]:
        """What the model says once the gate has decided; arguments as for ``generate``.

        ``made`` holds prefixes of edits that are not in the memory, as for ``prefixes``. Rows of
        similar length and scope run together, so that little is padded.
        """
        texts = [""] * len(decisions)
        for rows in batches([(len(d.fired), len(d.query)) for d in decisions], batch):
            prefixes = self.prefixes([decisions[i] for i in rows], made)
            found = self.lm.reply(
                [decisions[i].query for i in rows],
                prefixes,
                max_new_tokens=max_new_tokens,
                bos=self.bos(prefixes),
                **options,
            )
            for i, text in zip(rows, found, strict=True):
                texts[i] = text
        return texts

    def chat(
        self,
        messages: Sequence[Message],
        max_new_tokens: int = 256,
        namespace: str | None = None,
        threshold: float | None = None,
        edits: bool = True,
        **options: Any,
    ) -> Answer:
        """Answer the last turn of a conversation, in the words of the model's chat template.

        The gate reads the last user turn, alone and behind the user turn before it, so an edit
        that the conversation is about stays in force for a follow-up. Prefixes stand in front of
        the whole conversation.

        Args:
            messages: Turns with ``role`` (system, user, assistant) and ``content``; the last one
                is the user's.
            max_new_tokens: Longest answer.
            namespace: Whose edits may fire; ``None`` means the editor's own.
            threshold: Probability above which an edit fires; ``None`` means as calibrated.
            edits: ``False`` turns editing off.
            **options: For transformers' ``generate``.

        Returns:
            The answer; its query is the last user turn.

        Raises:
            InputError: The conversation is none, its last turn is empty or too long, or the
                model has no chat template for it.
        """
        start = time.perf_counter()
        query = Query.conversation(self.lm.tokenizer, messages)
        check_query(asked := query.judged[0])
        decision = GateDecision(asked)
        if edits:
            [decision] = self.decide([query], namespace, threshold)
        [prefix] = self.prefixes([decision])
        [bos] = self.bos([prefix])
        [said] = self.lm.generate(
            [query.text], [prefix], max_new_tokens, bos=bos and query.bos, **options
        )
        return Answer(asked, said.strip(), decision, time.perf_counter() - start)

    def stream(
        self,
        query: str | GateDecision,
        max_new_tokens: int = 32,
        namespace: str | None = None,
        threshold: float | None = None,
        edits: bool = True,
        **options: Any,
    ) -> Iterator[str]:
        """The answer to one query, piece by piece.

        Args:
            query: A text, or what the gate has decided about it.
            max_new_tokens: Longest answer.
            namespace: Whose edits may fire; ``None`` means the editor's own.
            threshold: Probability above which an edit fires; ``None`` means as calibrated.
            edits: ``False`` turns editing off.
            **options: For transformers' ``generate``.

        Raises:
            InputError: If the query is empty or too long.
        """
        decision = query if isinstance(query, GateDecision) else GateDecision(query)
        check_query(decision.query)
        if edits and decision is not query:
            [decision] = self.explain_many([decision.query], namespace, threshold)
        [prefix] = self.prefixes([decision])
        [bos] = self.bos([prefix])
        return self.lm.stream(decision.query, prefix, max_new_tokens, bos=bos, **options)

    def explain(self, query: str, namespace: str | None = None) -> GateDecision:
        """Which edits would fire for a query, which nearly would, and at what threshold."""
        return self.explain_many([query], namespace)[0]

    def explain_many(
        self, queries: Sequence[str], namespace: str | None = None, threshold: float | None = None
    ) -> list[GateDecision]:
        """Decisions of the gate, one per query."""
        check_queries(queries)
        limit = self.calibration(namespace).threshold if threshold is None else threshold
        return self.gate.decide(queries, self.shelf(namespace), limit)

    def decide(
        self,
        queries: Sequence[Query],
        namespace: str | None = None,
        threshold: float | None = None,
    ) -> list[GateDecision]:
        """Decisions of the gate about queries of several texts each, one per query."""
        texts = [text for query in queries for text in query.judged]
        found = iter(self.explain_many(texts, namespace, threshold))
        return [merged([next(found) for _ in q.judged]) for q in queries]

    def preview(
        self,
        rows: Sequence[dict[str, Any]],
        queries: Sequence[str],
        max_new_tokens: int = 32,
        namespace: str | None = None,
        threshold: float | None = None,
    ) -> list[tuple[Answer, Answer]]:
        """What would change if edits were written; nothing is stored.

        Args:
            rows: The edits, as for ``edit_many``.
            queries: What is asked.
            max_new_tokens: Longest answer.
            namespace: Whose edits they would join; ``None`` means the editor's own.
            threshold: Probability above which an edit fires; ``None`` means as calibrated.

        Returns:
            Per query, the answer as things are and the answer as it would be; the new edits'
            ids are ``new-1``, ``new-2``, …

        Raises:
            InputError: If the rows do not make edits, or a query is empty or too long.
        """
        name = namespace or self.namespace
        made = [self._made({**row, "namespace": name}) for row in rows]
        fresh = [replace(edit, id=f"new-{i}") for i, edit in enumerate(made, start=1)]
        found = Rivals(self.gate, self.shelf)(fresh)
        replaced = [id_ for ids in found for id_ in ids]
        replaced += [e.id for edit in fresh for e in self.memory.rivals(edit)]
        replaced += [self.memory.get(i).id for row in rows for i in self._named(row)]
        before = self.generate(queries, max_new_tokens, name, threshold)
        limit = self.calibration(name).threshold if threshold is None else threshold
        shelf = Overlay(self.shelf(name), self.gate.shelf(fresh), replaced)
        decisions = self.gate.decide(queries, shelf, limit)
        new = dict(zip([e.id for e in fresh], self.generator.prefixes(fresh), strict=True))
        said = self.answer(decisions, max_new_tokens, made=new)
        after = [
            Answer(query, text.strip(), decision)
            for query, text, decision in zip(queries, said, decisions, strict=True)
        ]
        return list(zip(before, after, strict=True))

    def prefixes(
        self, decisions: Sequence[GateDecision], made: Mapping[str, Prefix] | None = None
    ) -> list[Prefix | None]:
        """The joined prefix of the edits that fired, per decision.

        Args:
            decisions: Of the gate.
            made: Prefixes of edits that are not in the memory, by id; the others' are taken from
                the memory's cache or made now.
        """
        known = dict(made or {})
        edits = {e.id: e for d in decisions for e in d.fired if e.id not in known}
        known |= self.cached_prefixes(list(edits.values()))
        return [Prefix.join([known[e.id] for e in d.fired]) if d.fired else None for d in decisions]

    def bos(self, prefixes: Sequence[Prefix | None]) -> list[bool]:
        """Per prefix, whether the text behind it gets the tokenizer's leading tokens."""
        return [p is None or not self.generator.replaces_bos for p in prefixes]

    def cached_prefixes(self, edits: Sequence[Edit]) -> dict[str, Prefix]:
        """Prefixes by id, from the memory's cache or made now."""
        stamp = self.generator.fingerprint
        kept = self.memory.get_prefixes(stamp, [e.id for e in edits])
        cached = {id_: prefix.to(self.lm.device) for id_, prefix in kept.items()}
        missing = [e for e in edits if e.id not in cached]
        if missing:
            fresh = self.generator.prefixes(missing)
            with suppress(MemoryFileError):  # a full disk stops writing, not answering
                self.memory.put_prefixes(stamp, [e.id for e in missing], fresh)
            cached |= {e.id: p for e, p in zip(missing, fresh, strict=True)}
        return cached

    # --- gate ---------------------------------------------------------------------------------

    def shelf(self, namespace: str | None = None) -> Shelf:
        """The namespace's active edits with their keys; brought up to date with the memory."""
        return self._shelves.of(self.memory, namespace or self.namespace)

    def calibration(self, namespace: str | None = None) -> Calibration:
        """The namespace's own calibration if it has one for this gate, else the gate's."""
        own = self.memory.get_meta(kept_as(namespace or self.namespace))
        if own and own["gate"] == self.gate.fingerprint:
            return Calibration(**own)
        return self.gate.calibration

    def calibrate(
        self,
        queries: Sequence[str] = (),
        rate: float = 0.01,
        namespace: str | None = None,
        most: int = 1000,
    ) -> Calibration:
        """Fit the threshold to this memory, and keep it there.

        Args:
            queries: Texts that no edit bears on. Beside them, each edit's prompt, or its sentence
                if it has none, is asked of the other edits, which are out of its scope unless they
                answer the same question.
            rate: Promised share of out-of-scope queries that fire anything (0 to 1).
            namespace: Which edits.
            most: Edits asked of the others, at most.

        Returns:
            The calibration, with its evidence.

        Raises:
            InputError: If edits and queries together are too few for the promise.
        """
        check_queries(queries)
        shelf = self.shelf(namespace)
        scores = self.gate.highest(list(queries), shelf) if queries else []
        asked = list(shelf.edits.values())[:most]
        scores += self.gate.highest_of_others(asked, shelf)
        fitted = fit_threshold(scores, rate, len(shelf), self.gate.fingerprint)
        state = {k: getattr(fitted, k) for k in Calibration.__slots__}
        self.memory.set_meta(kept_as(namespace or self.namespace), state)
        return fitted
