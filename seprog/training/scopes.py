"""What a scope gate learns from: memories of edits, and which of them bear on what is asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from seprog.atlas.fiction import counterfact
from seprog.atlas.scenario import Probe, Scenario
from seprog.atlas.world import Fact
from seprog.gate import cue
from seprog.types import Edit


@dataclass(frozen=True)
class Stage:
    """What the gate is asked at one hop.

    Args:
        text: The query, followed by the statements that fired before.
        cue: Where rare words are looked up.
        right: The edits that should fire now.
        same: Whether they answer the very question of the text.
        told: The edits that fired before, in order.
        unclear: Ids of edits of which it is not known whether they bear on the text.
    """

    text: str
    cue: str
    right: tuple[Edit, ...] = ()
    same: bool = False
    told: tuple[Edit, ...] = ()
    unclear: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Scopes:
    """A memory, and what is asked of it.

    Args:
        edits: All edits of the memory, with ids.
        stages: In random order.
    """

    edits: Sequence[Edit]
    stages: Sequence[Stage]


def as_edits(scenario: Scenario) -> dict[Fact, Edit]:
    """The scenario's facts as edits with ids."""
    return {
        fact: Edit(scenario.statement(fact), id=str(i))
        for i, fact in enumerate(scenario.facts.values())
    }


def stages(probe: Probe, known: dict[Fact, Edit]) -> list[Stage]:
    """What the gate is asked in the course of one probe; no edit is left to fire at the last."""
    same = probe.kind in ("rewrite", "paraphrase")
    return in_turn(probe.prompt, [known[fact] for fact in probe.used], same)


def in_turn(
    prompt: str, right: Sequence[Edit], same: bool = False, unclear: AbstractSet[str] = frozenset()
) -> list[Stage]:
    """What the gate is asked as one edit fires after another; no edit is left to fire at the last.

    Args:
        prompt: The query.
        right: The edits that should fire, in order.
        same: Whether they answer the very question of the prompt.
        unclear: Ids of edits of which it is not known, beside these, whether they bear on it.
    """
    text = words = prompt
    found: list[Stage] = []
    for i, edit in enumerate(right):
        told = tuple(right[:i])
        open_ = frozenset(unclear - {e.id for e in (*told, edit)})
        found.append(Stage(text, words, (edit,), same, told, open_))
        text, words = f"{text} {edit.statement}", cue(text, edit.statement)
    left = frozenset(unclear - {e.id for e in right})
    return [*found, Stage(text, words, told=tuple(right), unclear=left)]


def followed(stages: Sequence[Stage]) -> list[Stage]:
    """Each stage and, for each edit that is right there, the stage that comes once it has fired.

    There only the other right edits are still to fire, if there are any. A gate that never learned
    this goes on from edit to edit among those that are alike.
    """
    found: list[Stage] = []
    for stage in stages:
        found.append(stage)
        for edit in stage.right:
            found.append(
                Stage(
                    f"{stage.text} {edit.statement}",
                    cue(stage.text, edit.statement),
                    tuple(e for e in stage.right if e != edit),
                    told=(*stage.told, edit),
                    unclear=stage.unclear,
                )
            )
    return found


def atlas_scopes(scenario: Scenario, rng: random.Random) -> Scopes:
    """Every stage of every probe of a scenario, and statements that contradict an edit.

    What classes pass on is asked more often than it would come up: few edits are on classes, and
    what follows from them shares no word with them but the subject.
    """
    known = as_edits(scenario)
    facts = list(known)
    probes = list(scenario.in_scope(rng)) + list(scenario.near_misses(rng, facts))
    for _ in range(4):
        probes += scenario.composed(rng)
        probes += scenario.passed_on(rng)
    probes += scenario.far(rng, len(facts))
    found = [stage for probe in probes for stage in stages(probe, known)]
    for fact in rng.sample(facts, len(facts) // 5):
        relation = scenario.world.relations[fact.relation]
        other = counterfact(scenario.world, relation, scenario.split, rng, subject=fact.subject)
        paraphrases = scenario.in_scope(rng, [fact])
        prompts = [p.prompt for p in paraphrases if p.kind in ("rewrite", "paraphrase")]
        text = f"{rng.choice(prompts)} {other.object}."
        found.append(Stage(text, text, (known[fact],), same=True))
    rng.shuffle(found)
    return Scopes(list(known.values()), found)
