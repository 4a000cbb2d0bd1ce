"""What is learnt from LeapOfThought."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from seprog.data.leapofthought import Leap, Property, load_leaps
from seprog.training.classifier import label
from seprog.training.leaps import MIX, bears, leap_examples, leap_scopes
from tests.data.leaps import write

WING = Property("bird", "meronym", "wing", True)


@pytest.fixture
def leaps(tmp_path: Path) -> list[Leap]:
    return load_leaps(write(tmp_path), "train")


def test_what_bears_on_a_statement() -> None:
    leap = Leap("A raven has a wing.", True, "raven", WING, frozenset({"music"}))
    assert bears(WING, leap) and bears(WING.flipped(), leap)
    assert bears(Property("music", "meronym", "wing", True), leap) is False
    assert bears(Property("animal", "meronym", "wing", True), leap) is None
    assert bears(Property("bird", "meronym", "xylem", True), leap) is False
    assert bears(WING, Leap("A raven is a bird.", True, "raven")) is False


def test_answers_follow_from_the_edits(leaps: list[Leap]) -> None:
    by_phrase = {leap.phrase: leap for leap in leaps if leap.premise}
    rules = {leap.rule.claim: leap.rule for leap in leaps if leap.rule}
    stated = {p.statement: p for x in leaps if x.premise for p in (x.premise, x.premise.flipped())}
    counts: Counter[str] = Counter()
    flipped = 0
    for example in islice(leap_examples(leaps, random.Random(0)), 2000):
        counts[example.kind] += 1
        told = [stated[e] for e in example.edits if e in stated]
        if example.kind in ("entailed", "both", "unrelated"):
            leap = by_phrase[example.prompt]
            [*right] = [p for p in told if bears(p, leap)]
            if example.kind == "unrelated":
                assert not right and example.answer is None
                assert leap.rule is None or leap.rule.statement not in example.edits
                continue
            assert len(right) == 1 and example.answer == label(right[0].holds)
            assert (leap.rule is not None and leap.rule.statement in example.edits) == (
                example.kind == "both"
            )
            flipped += right[0] != leap.premise
        elif example.kind == "rewrite":
            [right_one] = [p for p in told if p.claim == example.prompt]
            assert example.answer == label(right_one.holds)
        else:
            rule = rules[example.prompt]
            wanted = rule if example.answer == "true" else rule.flipped()
            assert wanted.statement in example.edits
    for kind, share in MIX.items():
        assert counts[kind] / 2000 == pytest.approx(share, abs=0.04)
    assert 0.4 < flipped / (counts["entailed"] + counts["both"]) < 0.6


def test_a_memory_of_properties_and_rules(leaps: list[Leap]) -> None:
    scopes = leap_scopes(leaps, 8, random.Random(0), rules=0.5)
    by_phrase = {leap.phrase: leap for leap in leaps if leap.premise}
    stated = {p.statement: p for x in leaps if x.premise for p in (x.premise, x.premise.flipped())}
    properties = [e for e in scopes.edits if e.statement in stated]
    assert len(properties) == 8 and len(scopes.edits) > 8
    asked = [s for s in scopes.stages if not (s.same or s.told)]
    assert sum(bool(s.right) for s in asked) == sum(not s.right for s in asked) == 24
    assert any(len(s.right) == 2 for s in asked)
    for stage in asked:
        leap = by_phrase[stage.text]
        for edit in properties:
            inside = bears(stated[edit.statement], leap)
            assert (edit in stage.right) == bool(inside)
            assert (edit.id in stage.unclear) == (inside is None)
    assert {s.right[0] for s in scopes.stages if s.same} == set(scopes.edits)
