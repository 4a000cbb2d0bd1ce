"""zsRE on a sequence-to-sequence base model that answers questions by heart.

The base model starts from a sentence encoder and is taught the true answers. Test questions are
edited; it has read them in one wording only. Generators and gates learn from other questions, on
other subjects. What follows from an edit (the portability questions) mostly asks for something that
a base model of this size was never taught.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import AutoTokenizer

from seprog.bench.facts import FactEditing, FactParts, fact_of
from seprog.data.cases import Case, load_folder
from seprog.data.folders import TABLES, files_of
from seprog.data.zsre import ANNOTATED, MEND, read_answered
from seprog.errors import InputError
from seprog.lm import Seq2SeqLM
from seprog.text_encoder import packaged_folder
from seprog.training.facts import Fact, mentions
from seprog.training.seq2seq import Seq2SeqTraining, train_seq2seq

Row = tuple[Fact, Case]
"""A question, and where it comes from."""


@dataclass(frozen=True)
class ZsREBench:
    """How much of zsRE is taught and edited.

    Args:
        test: Questions that are edited, at most; those with a portability question come first.
        aside: Questions that are near misses of those, at most; and as many of those in ``dev``.
        dev: Questions that thresholds are fitted on, at most.
        far: Unrelated questions (Natural Questions) that are taught and asked, at most.
        read: Questions with some answer that base models and generators read, at most.
        sizes: Edits at a time; 0 means all.
        few: Questions that are edited where there are fewer edits at a time than this.
        open_book: Share of the base model's documents that are to be read.
        model: How the base model is trained.
    """

    test: int = 800
    aside: int = 150
    dev: int = 300
    far: int = 300
    read: int = 8000
    sizes: tuple[int, ...] = (1, 10, 100, 0)
    few: int = 200
    open_book: float = 0.25
    model: Seq2SeqTraining = field(default_factory=Seq2SeqTraining)


class ZsRE(FactEditing):
    """The task.

    Args:
        folder: With zsRE's files as published: MEND's form, the annotated one, and lists of
            questions with answers (tab separated).
        config: How much of it.
        encoder: Folder of the sentence encoder that the base model starts from; ``None`` means the
            one of the ``encoder`` extra.

    Raises:
        InputError: If no file of zsRE is there, or a row is wrong.
        MissingExtra: If ``encoder`` is ``None`` and the extra is not installed.
    """

    def __init__(
        self, folder: Path, config: ZsREBench | None = None, encoder: Path | None = None
    ) -> None:
        self.config = config = config or ZsREBench()
        self.encoder = encoder or packaged_folder()
        written = _writer(self.encoder)
        cases = _cases(folder)
        found = [fact_of(case, written) for case in cases]
        rows = [(replace(f, group=f.group.lower()), c) for f, c in zip(found, cases, strict=True)]
        chosen, rest = rows[: config.test], rows[config.test :]
        aside, rest = rest[: config.aside], rest[config.aside :]
        dev, rest = rest[: config.dev], rest[config.dev :]
        groups = {f.group for f, _ in dev}
        rest = sorted(rest, key=lambda row: row[0].group not in groups)
        beside_dev, rest = rest[: config.aside], rest[config.aside :]
        untaught = (*chosen, *aside, *dev, *beside_dev)
        apart = {f.subject for f, _ in untaught}
        train = [f for f, _ in rest]
        told = _read(folder, written, config.read)
        told = [f for f in told if not mentions(f.prompts[0], apart)]
        self.aside = [f for f, _ in (*aside, *beside_dev)]
        parts = FactParts(
            [*train, *told],
            [f for f, _ in dev],
            [f for f, _ in chosen],
            _far(cases, written, config.far),
            {f.prompts[0]: written(c.edits[0].target) for f, c in (*chosen, *dev)},
            _near(chosen, aside) | _near(dev, beside_dev),
            {
                f.prompts[0]: [
                    (a.prompt, tuple(map(written, a.answers)))
                    for a in c.asked
                    if a.kind == "entailed"
                ]
                for f, c in chosen
            },
        )
        once = [f for f, _ in untaught] + list(parts.far)
        super().__init__(
            parts,
            [*train, *(replace(f, prompts=f.prompts[:1]) for f in once)],
            config.sizes,
            config.few,
            config.open_book,
        )

    def teach(self, folder: Path, run_folder: Path) -> None:
        """From the sentence encoder."""
        train_seq2seq(self.encoder, folder, run_folder, self.config.model, self.corpus)

    def load(self, folder: Path) -> Seq2SeqLM:
        """The base model."""
        return Seq2SeqLM.from_pretrained(str(folder), "float32", self.config.model.device)

    def exam(self) -> dict[str, list[tuple[str, str]]]:
        """The test questions, in the wording that was taught and in others, and unrelated ones."""
        test, far = self.parts.test, self.parts.far
        return {
            "questions": [(f.prompts[0], f.answer) for f in test],
            "paraphrases": [(p, f.answer) for f in test for p in f.prompts[1:]],
            "unrelated": [(f.prompts[0], f.answer) for f in far],
        }


def _writer(encoder: Path) -> Callable[[str], str]:
    """An answer as the base model would write it: in the encoder's tokens, and back."""
    tokenizer = AutoTokenizer.from_pretrained(encoder, local_files_only=True)

    def written(answer: str) -> str:
        ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
        return str(tokenizer.decode(ids)).strip().removesuffix(".").strip()

    return written


def _cases(folder: Path) -> list[Case]:
    """Those with consequences first, each subject once, in an order that is always the same."""
    found: dict[str, Case] = {}
    loaded = [case for cases in load_folder(folder, (MEND, ANNOTATED)) for case in cases]
    for case in sorted(loaded, key=lambda c: all(a.kind != "entailed" for a in c.asked)):
        edit = case.edits[0]
        known = edit.subject and edit.truth and edit.subject in edit.prompt
        if known and edit.target not in edit.truth:  # else nothing would change
            found.setdefault(edit.subject, case)
    if not found:
        raise InputError(
            f"{folder} holds no file of zsRE",
            "MEND's or the annotated form as JSON lines, plain or gzipped",
            "Give such a folder with --data",
        )
    return list(found.values())


def _read(folder: Path, written: Callable[[str], str], limit: int) -> list[Fact]:
    """Questions of which only some answer is known; a group is the words that they begin with."""
    rows = [row for path in files_of(folder, TABLES) for row in read_answered(path)]
    return [
        Fact(question, (question,), written(answer), " ".join(question.lower().split()[:3]))
        for question, answer in dict(rows[:limit]).items()
    ]


def _far(cases: Iterable[Case], written: Callable[[str], str], limit: int) -> list[Fact]:
    found: dict[str, Fact] = {}
    for case in cases:
        for a in case.asked:
            if a.kind == "far" and a.group == "loc":
                found[a.prompt] = Fact(a.prompt, (a.prompt,), written(a.answers[0]), "unrelated")
    return list(found.values())[:limit]


def _near(facts: Sequence[Row], others: Sequence[Row]) -> dict[str, list[str]]:
    """By the first prompt of each fact, the others' prompts in the same words on other subjects."""
    by_group: dict[str, list[str]] = defaultdict(list)
    for other, _ in others:
        by_group[other.group].append(other.prompts[0])
    return {f.prompts[0]: by_group[f.group][:3] for f, _ in facts if f.group in by_group}
