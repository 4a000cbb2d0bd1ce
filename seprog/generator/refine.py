"""Prefixes that do what they are for: tried on their edits, and put right where they fail.

A generator meets phrasings and names that it never saw, and some prefixes do not take, or just
about. Those are moved by gradient descent until the frozen model surely gives the edit's answer to
the edit's own prompt (Li and Liang 2021, "Prefix-Tuning", on one example from a good start).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from seprog.errors import InputError
from seprog.generator.objective import Objective, objective_for
from seprog.lm import CausalLM, LanguageModel
from seprog.types import Edit, Example, Prefix, PrefixBatch

RATE = 0.03
"""Step size of Adam, relative to the root mean square of the keys or values of a layer."""
ENOUGH = 0.03
"""Loss per token of the answer at which a prefix takes surely enough. Those that just take are
moved, too: they would fail in other words, or beside another edit."""
END = re.compile(r"(?P<before>\S.*?)\s+(?P<end>(?:[A-Z\d][\w'.-]*\s+)*\S+?)[.!?]*", re.DOTALL)
"""A sentence, and how it ends: with words that begin with capitals or digits, or one word."""
TOGETHER = 16
"""Prefixes that are moved in one batch, whose gradients have to fit in memory."""


def refined(
    lm: LanguageModel, edits: Sequence[Edit], prefixes: Sequence[Prefix], steps: int
) -> list[Prefix]:
    """The prefixes; those moved with which the model does not surely give their edit's answer.

    Args:
        lm: The base model.
        edits: One per prefix. Those given as a sentence alone are tried on how it ends, by models
            that go on with texts; those whose answer is none that the model could give, never.
        prefixes: As generated.
        steps: At most, per prefix.

    Returns:
        One prefix per edit. One that does not take after all steps comes back as it was.
    """
    found = list(prefixes)
    try:
        objective = objective_for(lm)
    except InputError:  # a head that gives no single answer
        return found
    goes_on = isinstance(lm, CausalLM)
    tried = ((i, _example(edit, goes_on)) for i, edit in enumerate(edits))
    examples = {i: e for i, e in tried if e is not None and objective.can_say(str(e.answer))}
    known = list(examples)
    for start in range(0, len(known), 64):
        part = known[start : start + 64]
        with torch.no_grad():
            asked = objective.ask(
                PrefixBatch.stack([found[i] for i in part]), [examples[i] for i in part]
            )
        losses = asked.losses().tolist()
        failed = [
            i
            for i, hit, loss in zip(part, asked.hits(), losses, strict=True)
            if not hit or loss > ENOUGH
        ]
        for first in range(0, len(failed), TOGETHER):
            rows = failed[first : first + TOGETHER]
            moved = _moved(objective, [found[i] for i in rows], [examples[i] for i in rows], steps)
            for i, prefix in zip(rows, moved, strict=True):
                found[i] = prefix
    return found


def _example(edit: Edit, goes_on: bool) -> Example | None:
    """What an edit says of itself: its prompt and answer, or its sentence up to how it ends.

    It ends in its object or, where that is not known and the model goes on with texts
    (``goes_on``), in its last name, number or word.
    """
    if edit.prompt and edit.target:
        return Example((), edit.prompt, edit.target)
    before, found, _ = edit.statement.rpartition(edit.object or "\0")
    if found and before.strip():
        return Example((), before.rstrip(), edit.object)
    parts = END.fullmatch(edit.statement.strip()) if goes_on else None
    return Example((), parts["before"], parts["end"]) if parts else None


@torch.enable_grad()
def _moved(
    objective: Objective, prefixes: Sequence[Prefix], examples: Sequence[Example], steps: int
) -> list[Prefix]:
    """Each prefix after as many steps as it takes, or as it was if it never takes.

    They are moved in one batch, and none by what is asked of another.
    """
    starts = [[x.detach().float() for x in (*p.keys, *p.values)] for p in prefixes]
    sizes = [[x.square().mean().sqrt() for x in start] for start in starts]
    moves = [[torch.zeros_like(x, requires_grad=True) for x in start] for start in starts]
    optimizer = torch.optim.Adam([m for row in moves for m in row], lr=RATE)
    best, rows = list(prefixes), list(range(len(prefixes)))
    for _ in range(steps):
        now = [
            _prefix(
                prefixes[i],
                [x + s * m for x, s, m in zip(starts[i], sizes[i], moves[i], strict=True)],
            )
            for i in rows
        ]
        asked = objective.ask(PrefixBatch.stack(now), [examples[i] for i in rows])
        losses, hits = asked.losses(), asked.hits()
        for i, prefix, hit in zip(rows, now, hits, strict=True):
            if hit:
                best[i] = _prefix(prefix, [x.detach() for x in (*prefix.keys, *prefix.values)])
        open_ = [not hit or loss >= ENOUGH for hit, loss in zip(hits, losses.tolist(), strict=True)]
        rows = [i for i, still in zip(rows, open_, strict=True) if still]
        if not rows:
            break
        optimizer.zero_grad()
        losses[torch.tensor(open_)].sum().backward()
        optimizer.step()
    return best


def _prefix(like: Prefix, tensors: Sequence[Tensor]) -> Prefix:
    """Keys, then values, as a prefix of the same type."""
    cast, sites = [x.to(like.keys[0].dtype) for x in tensors], len(like.keys)
    return Prefix(tuple(cast[:sites]), tuple(cast[sites:]))
