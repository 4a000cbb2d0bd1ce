"""The tables and the phrasings that ship with seprog."""

from __future__ import annotations

from collections import Counter

import pytest

from seprog.atlas.world import SPLITS, WORDINGS, Relation, asks, fill, load_world, split_of, tidy

WORLD = load_world()
RELATIONS = list(WORLD.relations.values())
each_relation = pytest.mark.parametrize("relation", RELATIONS, ids=[r.name for r in RELATIONS])


def test_there_is_enough_to_know() -> None:
    assert len(WORLD.facts) >= 3000
    assert len({relation for relation, _ in WORLD.facts}) == len(RELATIONS) >= 25


@each_relation
def test_every_relation_can_be_put_in_many_words(relation: Relation) -> None:
    assert sum(map(len, relation.phrasings.values())) >= 8
    assert len(relation.phrasings["calibration"]) + len(relation.phrasings["test"]) >= 2
    for split in WORDINGS:
        assert {asks(p) for p in relation.phrasings[split]} == {True, False}
        assert relation.nouns[split]
        assert bool(relation.inverses[split]) == relation.one_to_one


@each_relation
def test_no_phrasing_is_in_two_splits(relation: Relation) -> None:
    for table in (relation.phrasings, relation.nouns, relation.inverses):
        apart = [table[w] for w in WORDINGS if w != "train"]  # those are among many writers'
        folded = Counter(p.casefold() for phrasings in apart for p in phrasings)
        assert [p for p, n in folded.items() if n > 1] == []


@each_relation
def test_phrasings_are_well_formed(relation: Relation) -> None:
    for split in WORDINGS:
        for phrasing in relation.phrasings[split]:
            assert phrasing.endswith(" {o}.") and (phrasing[0].isupper() or phrasing[0] == "{")
            assert phrasing.count("{s}") == phrasing.count("{o}") == 1
            assert "?" not in phrasing or phrasing.endswith("? {o}.")
        for noun in relation.nouns[split]:
            assert noun.count("{s}") == 1 and "{o}" not in noun
            assert noun.startswith(("the ", "what ", "{s}'s ")) and noun[-1] not in ".?"
        for phrasing in relation.inverses[split]:
            assert phrasing.endswith(" {s}.") and (phrasing[0].isupper() or phrasing[0] == "{")
            assert phrasing.count("{s}") == phrasing.count("{o}") == 1
        everything = (
            *relation.phrasings[split],
            *relation.nouns[split],
            *relation.inverses[split],
        )
        assert all("  " not in text and text == text.strip() for text in everything)


@each_relation
def test_names_come_through_the_wording_unharmed(relation: Relation) -> None:
    values = {v for (name, _), v in WORLD.facts.items() if name == relation.name}
    for split in WORDINGS:
        for phrasing in relation.phrasings[split]:
            for name in WORLD.entities[relation.subject]:
                assert name.casefold() in fill(phrasing, name).casefold()
        for phrasing in relation.inverses[split]:
            for name in values:
                # an article may give way to the one that stands before it
                bare = name.removeprefix("the ").removeprefix("an ").removeprefix("a ")
                assert bare.casefold() in tidy(phrasing.replace("{o}", name)).casefold()


def test_names_and_values_are_tidy() -> None:
    for type_, names in WORLD.entities.items():
        assert [n for n, count in Counter(names).items() if count > 1] == [], type_
    texts = [*WORLD.facts.values(), *(n for names in WORLD.entities.values() for n in names)]
    assert all(t and t == t.strip() and "{" not in t and not t.endswith(".") for t in texts)


def test_every_country_that_is_named_is_in_the_table() -> None:
    assert set(WORLD.objects("country")) <= set(WORLD.entities["country"])


def test_capitals_lie_in_their_country() -> None:
    assert len(WORLD.entities["country"]) > 150
    for country in WORLD.entities["country"]:
        capital = WORLD.facts["capital", country]
        assert WORLD.facts["city_country", capital] == country


def test_chains_of_classes_end() -> None:
    for name in WORLD.entities["organism"]:
        seen = [name]
        while (parent := WORLD.facts.get(("kind", seen[-1]))) is not None:
            assert parent not in seen
            assert parent in WORLD.entities["organism"]
            seen.append(parent)
        assert len(seen) <= 8


def test_every_relation_is_about_a_known_type() -> None:
    for relation in RELATIONS:
        assert relation.subject in WORLD.entities
        assert WORLD.objects(relation.object)
        assert relation.name in WORLD.continuations(relation.subject)


def test_names_are_split_seven_one_two() -> None:
    names = {n for names in WORLD.entities.values() for n in names}
    share = Counter(split_of(n) for n in names)
    assert sorted(share) == sorted(SPLITS)
    assert share["train"] / len(names) == pytest.approx(0.7, abs=0.05)
    assert share["test"] / len(names) == pytest.approx(0.2, abs=0.05)
    assert split_of("Australia") == split_of("Australia")
