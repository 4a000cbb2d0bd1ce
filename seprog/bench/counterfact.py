"""CounterFact on a causal base model that knows its facts.

The base model is trained from nothing on what is true: the records' prompts and their neighbours'.
Test records are edited; it has read their own prompts only, never their paraphrases. Generators and
gates learn from other records, on other subjects.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from seprog.bench.facts import FactEditing, FactParts, known_share
from seprog.bench.trials import Models
from seprog.data.byte_pairs import byte_pairs
from seprog.data.cases import Case, load_cases
from seprog.errors import InputError
from seprog.lm import CausalLM
from seprog.training.causal import CausalTraining, train_causal
from seprog.training.facts import Fact, FactCorpus

PARTS = ("test", "far", "calibration", "train")
"""In the order in which they are filled, from the full records on."""


@dataclass(frozen=True)
class CounterFactBench:
    """How large a share of CounterFact is taught and edited.

    Args:
        train: Records that generators and gates learn from, at most.
        calibration: Records that thresholds are fitted on, at most.
        test: Records that are edited, at most.
        far: Records that are asked about only, at most.
        neighbours: Of each test record's neighbours, how many are taught and asked.
        sizes: Edits at a time; 0 means all.
        few: Records that are edited where there are fewer edits at a time than this.
        open_book: Share of the base model's documents that are to be read.
        model: How the base model is trained.
    """

    train: int = 6000
    calibration: int = 600
    test: int = 2000
    far: int = 300
    neighbours: int = 10
    sizes: tuple[int, ...] = (1, 10, 100, 1000, 0)
    few: int = 300
    open_book: float = 0.25
    model: CausalTraining = field(
        default_factory=lambda: CausalTraining(vocabulary=8192, layers=8, steps=6000)
    )


class CounterFact(FactEditing):
    """The task.

    Args:
        folder: With CounterFact's files as published: full records, flat ones, or both.
        config: How much of it.

    Raises:
        InputError: If no file of CounterFact is there, or a row is wrong.
    """

    def __init__(self, folder: Path, config: CounterFactBench | None = None) -> None:
        self.config = config or CounterFactBench()
        cases = _cases(folder)
        targets: dict[str, str] = {}
        sizes = {name: getattr(self.config, name) for name in PARTS}
        parts: dict[str, list[Fact]] = {name: [] for name in PARTS}
        of_subject: dict[str, str] = {}
        for case in cases:
            free = (name for name, size in sizes.items() if len(parts[name]) < size)
            part = of_subject.get(case.edits[0].subject) or next(free, None)
            if part is None:
                continue
            of_subject[case.edits[0].subject] = part
            fact = _fact(case, self.config.neighbours)
            targets[fact.prompts[0]] = case.edits[0].target
            parts[part].append(fact)
        test, far, dev, train = (parts[name] for name in PARTS)
        near = {f.prompts[0]: f.near for f in (*test, *dev)}
        given = FactParts(train, dev, test, far, targets, near)
        super().__init__(given, self.config.sizes, self.config.few)

    def models(self, work: Path) -> Models:
        """The base model; it has no reading twin, for it reads itself."""
        parts, folder = self.parts, work / "base"
        asked = [*parts.test, *parts.far, *parts.dev]
        known = [
            *parts.train,
            *(Fact(f.subject, f.prompts[:1], f.answer, f.group, f.near) for f in asked),
        ]
        if not (folder / "training.json").exists():
            train_causal(
                folder,
                work / "base.run",
                self.config.model,
                lambda seed: FactCorpus(
                    known, parts.train, random.Random(seed), self.config.open_book
                ),
                self._tokenizer(work, known),
            )
        lm = CausalLM.from_pretrained(str(folder), "float32")
        note = work / "base.json"
        if not note.exists():
            near = [(p, f.answer) for f in parts.test for p in f.near]
            records = known_share(lm, [(f.prompts[0], f.answer) for f in parts.test])
            note.write_text(json.dumps({"records": records, "neighbours": known_share(lm, near)}))
        return Models(lm, None, json.loads(note.read_text()))

    def _tokenizer(self, work: Path, known: Sequence[Fact]) -> PreTrainedTokenizerFast:
        path = work / "base.run" / "tokenizer"
        if not path.exists():
            texts = [f"{p} {f.answer}." for f in known for p in (*f.prompts, *f.near)]
            texts += [f.stated(self.parts.targets.get(f.prompts[0], f.answer)) for f in known]
            byte_pairs(iter(texts), self.config.model.vocabulary).save_pretrained(path)
        return PreTrainedTokenizerFast.from_pretrained(path)


def _cases(folder: Path) -> list[Case]:
    """Full records first, each fact once."""
    found: dict[str, Case] = {}
    paths = [p for p in sorted(folder.glob("*")) if ".json" in p.name]
    loaded = [load_cases(p) for p in paths]
    for cases in sorted(loaded, key=lambda c: -len(c[0].asked)):
        for case in cases:
            if case.edits[0].subject and case.edits[0].truth:
                found.setdefault(case.edits[0].prompt, case)
    if not found:
        raise InputError(
            f"{folder} holds no file of CounterFact",
            "counterfact.json, or EasyEdit's flat files, plain or gzipped",
            "Give such a folder with --data",
        )
    return list(found.values())


def _fact(case: Case, neighbours: int) -> Fact:
    edit = case.edits[0]
    paraphrases = [a.prompt for a in case.asked if a.kind == "paraphrase"]
    near = [a.prompt for a in case.asked if a.kind == "near_miss"]
    return Fact(
        edit.subject,
        tuple(dict.fromkeys([edit.prompt, *paraphrases])),
        edit.truth[0],
        edit.prompt.replace(edit.subject, "{}", 1),
        tuple(near[:neighbours]),
    )
