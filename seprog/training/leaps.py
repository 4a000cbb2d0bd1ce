"""What a generator and a gate learn from LeapOfThought.

Half of the properties are turned into their opposite, and the answers with them: the base model
knows the training statements, and an edit that says what it knows already need not be read.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal

from seprog.data.leapofthought import Leap, Property
from seprog.training.classifier import label
from seprog.training.scopes import Scopes, Stage, followed
from seprog.types import Edit, Example

Kind = Literal["entailed", "rewrite", "both", "rule", "unrelated"]
MIX: dict[Kind, float] = {
    "entailed": 0.42,
    "rewrite": 0.12,
    "both": 0.12,
    "rule": 0.08,
    "unrelated": 0.26,
}
"""Share of each kind of example: the statement that follows from the property; the property itself;
the statement, with the rule told as well; the rule itself; a statement on something else."""


def bears(premise: Property, leap: Leap) -> bool | None:
    """Whether a property bears on a statement; ``None`` if that can't be told from the row.

    A statement's member may belong to more classes than the one that its row names.
    """
    given = leap.premise
    if given is None or (premise.predicate, premise.object) != (given.predicate, given.object):
        return False
    if premise.subject == given.subject:
        return True
    return False if premise.subject in leap.others else None


def leap_examples(leaps: Sequence[Leap], rng: random.Random) -> Iterator[Example]:
    """Examples for a generator, in the proportions of ``MIX``, without end.

    Args:
        leaps: Rows of one split.
        rng: Source of chance.
    """
    leaps = [leap for leap in leaps if leap.premise is not None]
    by_member: dict[str, list[Leap]] = defaultdict(list)
    for leap in leaps:
        by_member[leap.member].append(leap)
    kinds, weights = list(MIX), list(MIX.values())
    while True:
        for kind in rng.choices(kinds, weights, k=64):
            yield _example(kind, rng.choice(leaps), leaps, by_member, rng)


def _example(
    kind: Kind,
    leap: Leap,
    leaps: Sequence[Leap],
    by_member: dict[str, list[Leap]],
    rng: random.Random,
) -> Example:
    flip = rng.random() < 0.5
    premise, rule = leap.premise, leap.rule
    assert premise is not None and rule is not None
    premise = premise.flipped() if flip else premise
    edits, prompt, answer = [premise], leap.phrase, leap.answer != flip
    if kind == "rewrite":
        prompt, answer = premise.claim, premise.holds
    elif kind == "both":
        edits = [premise, rule]
    elif kind == "rule":
        rule = rule.flipped() if flip else rule
        edits, prompt, answer = [rule], rule.claim, rule.holds
    elif kind == "unrelated":
        other = rng.choice(by_member[leap.member] if rng.random() < 0.5 else leaps)
        edits = [rule] if rng.random() < 0.2 and other.member != leap.member else [premise]
        if any(bears(e, other) is not False for e in edits):
            edits = _others(leaps, other, 1, rng)
        prompt = other.phrase
    told = leap if kind != "unrelated" else other
    edits += _others(leaps, told, rng.choices((0, 1, 2), (0.6, 0.25, 0.15))[0], rng)
    rng.shuffle(edits)
    statements = tuple(dict.fromkeys(e.statement for e in edits))
    wanted = None if kind == "unrelated" else label(answer)
    return Example(statements, prompt, wanted, kind)


def _others(leaps: Sequence[Leap], leap: Leap, count: int, rng: random.Random) -> list[Property]:
    """Properties, some of them turned round, that have nothing to do with a row."""
    found: list[Property] = []
    while len(found) < count:
        premise = rng.choice(leaps).premise
        assert premise is not None and leap.premise is not None
        same = premise.subject == leap.premise.subject and premise.object == leap.premise.object
        if not same and bears(premise, leap) is False:
            found.append(premise.flipped() if rng.random() < 0.5 else premise)
    return found


def premises_of(leaps: Sequence[Leap]) -> list[Property]:
    """Each property once; of two that contradict each other the first, for one alone can hold."""
    found: dict[str, Property] = {}
    for leap in leaps:
        if leap.premise is not None:
            found.setdefault(leap.premise.claim, leap.premise)
    return list(found.values())


def leap_scopes(
    leaps: Sequence[Leap], edits: int, rng: random.Random, rules: float = 0.3
) -> Scopes:
    """A memory of properties and rules, and statements in and out of their scope.

    Args:
        leaps: Rows of one split.
        edits: Properties in the memory.
        rng: Source of chance.
        rules: Share of the rows whose rule is in the memory as well (0 to 1).
    """
    leaps = [leap for leap in leaps if leap.premise is not None]
    premises = premises_of(leaps)
    chosen = {p: p.flipped() if rng.random() < 0.5 else p for p in rng.sample(premises, edits)}
    own = {p.claim: p for p in chosen}
    inside = [leap for leap in leaps if leap.premise and leap.premise.claim in own]
    told = {leap.rule for leap in rng.sample(inside, int(rules * len(inside)))} - {None}
    known = {
        thing: Edit(stated.statement, id=str(i))
        for i, (thing, stated) in enumerate([*chosen.items(), *((r, r) for r in told if r)])
    }
    others = [x for x in leaps if x.premise and x.premise.claim not in own]
    outside = rng.sample(others, len(inside))
    by_object: dict[tuple[str, str], list[Property]] = defaultdict(list)
    for premise in chosen:
        by_object[premise.predicate, premise.object].append(premise)
    by_member: dict[str, list[Property]] = defaultdict(list)
    for rule in told:
        if rule is not None:
            by_member[rule.subject].append(rule)
    stages: list[Stage] = []
    for leap in inside + outside:
        assert leap.premise is not None and leap.rule is not None
        near = by_object[leap.premise.predicate, leap.premise.object]
        unclear = {known[p].id for p in near if bears(p, leap) is None}
        unclear |= {known[r].id for r in by_member[leap.member] if r != leap.rule}
        edited = own.get(leap.premise.claim)
        right = tuple(known[x] for x in (edited, leap.rule) if x in known)
        if edited is None:  # of a rule alone, not without knowing more of the class
            unclear |= {e.id for e in right}
            right = ()
        stages.append(Stage(leap.phrase, leap.phrase, right, unclear=frozenset(unclear)))
    for thing, edit in known.items():
        stages.append(Stage(thing.claim, thing.claim, (edit,), True))
    stages = followed(stages)
    rng.shuffle(stages)
    return Scopes(list(known.values()), stages)
