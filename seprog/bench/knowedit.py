"""KnowEdit's wiki_counterfact on a causal base model that knows its facts.

The base model is trained from nothing on what the records call true: the edits' own prompts, other
names of their subjects, and other questions about them. It is taught nothing that would lead from a
new answer further, so the portability questions mostly ask for what it cannot know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from seprog.bench.facts import CausalFactEditing, FactParts, fact_of, shared_out
from seprog.data.cases import Asked, Case, load_folder
from seprog.data.knowedit import KNOWEDIT
from seprog.errors import InputError
from seprog.training.causal import CausalTraining
from seprog.training.facts import Fact

PARTS = ("test", "dev", "far", "train")
"""In the order in which they are filled, from the records with paraphrases on."""


@dataclass(frozen=True)
class KnowEditBench:
    """How large a share of KnowEdit is taught and edited.

    Args:
        test: Records that are edited, at most.
        dev: Records that thresholds are fitted on, at most.
        far: Records that are asked about only, at most.
        train: Records that generators and gates learn from, at most.
        paraphrases: Of each record, how many are taken.
        near: Of each record, how many questions about its subject that must stay as they are.
        sizes: Edits at a time; 0 means all.
        few: Records that are edited where there are fewer edits at a time than this.
        open_book: Share of the base model's documents that are to be read.
        model: How the base model is trained.
    """

    test: int = 400
    dev: int = 120
    far: int = 60
    train: int = 3000
    paraphrases: int = 4
    near: int = 4
    sizes: tuple[int, ...] = (1, 10, 100, 0)
    few: int = 200
    open_book: float = 0.25
    model: CausalTraining = field(
        default_factory=lambda: CausalTraining(vocabulary=8192, layers=8, steps=6000)
    )


class KnowEdit(CausalFactEditing):
    """The task.

    Args:
        folder: With KnowEdit's files as published; records without a true answer are left out.
        config: How much of them.

    Raises:
        InputError: If no file of KnowEdit is there, or a row is wrong.
    """

    def __init__(self, folder: Path, config: KnowEditBench | None = None) -> None:
        self.config = config = config or KnowEditBench()
        self.model = config.model
        parts = shared_out(_cases(folder), {name: getattr(config, name) for name in PARTS})
        facts = {name: [self._fact(c) for c in cases] for name, cases in parts.items()}
        edited = [*parts["test"], *parts["dev"]]
        entailed = {
            c.edits[0].prompt: [(a.prompt, a.answers) for a in c.asked if a.kind == "entailed"]
            for c in parts["test"]
        }
        names = [
            replace(fact_of(c), prompts=(a.prompt,))
            for name in ("test", "dev", "far")
            for c in parts[name]
            for a in c.asked
            if a.group == ALIAS
        ]
        shared = FactParts(
            facts["train"],
            facts["dev"],
            facts["test"],
            facts["far"],
            {c.edits[0].prompt: c.edits[0].target for c in edited},
            entailed=entailed,
        )
        super().__init__(
            shared,
            [*facts["train"], *shared.once(), *names],
            config.sizes,
            config.few,
            config.open_book,
        )

    def _fact(self, case: Case) -> Fact:
        """With some of its paraphrases, the subject's other names, and what must stay."""
        fact = fact_of(case)
        own, *rephrased = fact.prompts
        aliases = {a.prompt for a in case.asked if a.group == ALIAS}
        worded = [p for p in rephrased if p not in aliases][: self.config.paraphrases]
        named = [p for p in rephrased if p in aliases][:2]
        near = [(a.prompt, a.answers[0]) for a in case.asked if a.kind == "near_miss"]
        aside = tuple(near[: self.config.near])
        return replace(fact, prompts=(own, *worded, *named), aside=aside)

    def exam(self) -> dict[str, list[tuple[str, str]]]:
        """The test records, and what is near them."""
        test = self.parts.test
        return {
            "records": [(f.prompts[0], f.answer) for f in test],
            "aside": list(dict.fromkeys(pair for f in test for pair in f.aside)),
        }


ALIAS = "Subject_Aliasing"
"""KnowEdit's name of questions that call the subject by another name."""


def _cases(folder: Path) -> list[Case]:
    """Those with paraphrases first; each prompt once, and only what an edit would change."""
    loaded = [case for cases in load_folder(folder, [KNOWEDIT]) for case in cases]
    found: dict[str, Case] = {}
    for case in sorted(loaded, key=lambda c: not _worded(c)):
        edit = case.edits[0]
        usable = edit.subject and edit.truth and edit.subject in edit.prompt
        if usable and edit.target not in edit.truth:
            found.setdefault(edit.prompt, case)
    if not found:
        raise InputError(
            f"{folder} holds no file of KnowEdit",
            "wiki_counterfact's files as published, plain or gzipped",
            "Give such a folder with --data",
        )
    return list(found.values())


def _worded(case: Case) -> Sequence[Asked]:
    """Paraphrases in other words, not by other names."""
    return [a for a in case.asked if a.kind == "paraphrase" and a.group != ALIAS]
