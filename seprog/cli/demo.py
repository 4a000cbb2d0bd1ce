"""``seprog demo``: one edit and all that it does and does not do, each claim checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from seprog.cli import common, options
from seprog.cli.edit import store
from seprog.cli.output import clean, console, example, fired, fires, percent, short

if TYPE_CHECKING:
    from seprog.editor import Editor
    from seprog.types import Answer, GateDecision

EXAMPLE = example("seprog demo")


@dataclass(frozen=True)
class Story:
    """What the demo edits and asks, in words that Atlas knows; answers without their period."""

    question: str = "What is the capital of Australia?"
    truth: str = "Canberra"
    edit: str = "The capital of Australia is Milan."
    target: str = "Milan"
    paraphrase: str = "Which city is the capital of Australia?"
    consequence: str = "In which country is the capital of Australia?"
    follows: str = "Italy"
    near_miss: str = "What is the currency of Australia?"
    far: str = "Who wrote Hamlet?"
    second_edit: str = "The capital of Australia is Seattle."
    second_target: str = "Seattle"

    @property
    def queries(self) -> tuple[str, ...]:
        """Everything that is asked."""
        return (self.question, self.paraphrase, self.consequence, self.near_miss, self.far)


@dataclass
class Stage:
    """Where the demo is shown, and what it has claimed so far."""

    out: Console
    claims: list[tuple[str, bool]] = field(default_factory=list)

    def claim(self, what: str, holds: bool) -> None:
        """Note a claim, and whether it holds."""
        self.claims.append((what, holds))

    def panel(self, title: str, *parts: Table | str) -> None:
        """Show a step, and the claims made since the last one."""
        table = Table.grid(padding=(0, 0))
        for part in parts:
            table.add_row(Text(part) if isinstance(part, str) else part)
        fresh = self.claims[self._shown :]
        if parts and fresh:
            table.add_row("")
        for what, holds in fresh:
            table.add_row(Text(("✓ " if holds else "✗ ") + what, "green" if holds else "bold red"))
        self._shown = len(self.claims)
        self.out.print(Panel(table, title=title, title_align="left", padding=(1, 2)))

    _shown: int = 0


def demo(
    model: options.Model = None,
    generator: options.Generator = None,
    gate: options.Gate = None,
    device: options.Device = "cpu",
) -> None:
    """Edit one fact in a small model, offline, and see what changes and what does not.

    Nothing is kept. The exit code is 1 if one of the claims does not hold.
    """
    editor = common.open_editor(None, model, generator, gate, device=device)
    stage = Stage(console())
    tell(editor, Story(), stage)
    held = sum(holds for _, holds in stage.claims)
    stage.out.print(f"{held} of {len(stage.claims)} claims hold.")
    if held < len(stage.claims):
        raise typer.Exit(1)


def tell(editor: Editor, story: Story, stage: Stage) -> None:
    """The story from beginning to end."""
    before = editor.generate(story.queries, edits=False)
    stage.claim(f"the model knows: {story.truth}", said(before[0]) == story.truth)
    stage.panel("The model", _answers(before))

    edit, milliseconds = store(editor, statement=story.edit)
    stage.panel("The edit", story.edit, f"stored as {short(edit.id)} in {milliseconds:.0f} ms")

    after = editor.generate(story.queries)
    _claim_answers(stage, story, before, after)
    stage.panel("What changes, and what does not", _answers(after, before))

    changed, same = compare_logits(editor, (story.question, story.near_miss, story.far))
    stage.claim("the edited question's logits change", changed)
    stage.claim("the other two rows' logits are identical, bit for bit", same)
    stage.panel("In one batch: the edited question, the near miss and the far one")

    decision = editor.explain(story.consequence)
    stage.claim("the gate finds the edit behind the consequence", edit in decision.fired)
    stage.panel(f"Why: {story.consequence}", _candidates(decision))

    second, milliseconds = store(editor, statement=story.second_edit)
    stage.claim("it supersedes the first edit", second.supersedes == edit.id)
    answer = editor.ask(story.question)
    stage.claim(f"the answer is {story.second_target}", said(answer) == story.second_target)
    stage.panel(
        "A conflict", story.second_edit, f"stored in {milliseconds:.0f} ms", _answers([answer])
    )

    editor.forget(second.id)
    again = editor.generate(story.queries)
    stage.claim("every answer is the old one", [a.text for a in again] == [a.text for a in before])
    stage.panel("Forgotten", _answers(again[:1]))


def _claim_answers(
    stage: Stage, story: Story, before: Sequence[Answer], after: Sequence[Answer]
) -> None:
    question, paraphrase, consequence, near_miss, far = after
    stage.claim(f"the question: {story.target}", said(question) == story.target)
    stage.claim(f"asked differently: {story.target}", said(paraphrase) == story.target)
    stage.claim(f"what follows: {story.follows}", said(consequence) == story.follows)
    for name, old, new in (
        ("another question about it", before[3], near_miss),
        ("something else", before[4], far),
    ):
        same = old.text == new.text and not new.decision.fired
        stage.claim(f"{name}: the same answer, and no edit fires", same)


def said(answer: Answer) -> str:
    """An answer without its period."""
    return answer.text.strip().rstrip(".")


def compare_logits(editor: Editor, queries: Sequence[str]) -> tuple[bool, bool]:
    """Logits of one batch without the memory and with it.

    Args:
        editor: Edits in its memory bear on the first query alone.
        queries: One batch.

    Returns:
        Whether the first row changes, and whether all others are equal, bit for bit.
    """
    import torch

    from seprog.types import PrefixBatch

    lm = editor.lm
    ids, mask = lm.tokens.pad(lm.tokens.encode(queries), lm.device)
    prefixes = editor.prefixes(editor.explain_many(queries))
    with torch.no_grad():
        without = lm.forward(ids, mask)
        with_ = lm.forward(ids, mask, PrefixBatch.stack(prefixes))
    return not torch.equal(without[0], with_[0]), torch.equal(without[1:], with_[1:])


def _answers(answers: Sequence[Answer], before: Sequence[Answer] = ()) -> Table:
    table = Table(box=None, pad_edge=False, show_header=bool(before))
    for name in ("", "before", "after", "because of") if before else ("", ""):
        table.add_column(name)
    for i, answer in enumerate(answers):
        cells = [answer.query, *([before[i].text] if before else []), answer.text]
        if before:
            cells.append(", ".join(percent(c.probability) for c in fired(answer.decision)))
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return table


def _candidates(decision: GateDecision) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("fires", "probability", "threshold", "statement"):
        table.add_column(name)
    for c in decision.candidates:
        table.add_row(
            fires(c, decision.threshold),
            percent(c.probability),
            percent(decision.threshold),
            Text(clean(c.edit.statement)),
        )
    return table
