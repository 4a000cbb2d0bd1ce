"""Metrics, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from seprog.bench.metrics import (
    SHARES,
    Record,
    harmonic_mean,
    mean_over_edits,
    normalise,
    rate,
    retention,
    score,
)


def record(kind: str, expected: str, answer: str, **more: object) -> Record:
    return Record("seprog", 10, "after_all", kind, "?", expected, answer, **more)  # type: ignore[arg-type]


RECORDS = [
    record("rewrite", "Oslo", "Oslo.", needed=("a",), fired=("a",)),
    record("rewrite", "Oslo", "Rome.", needed=("b",), fired=()),
    record("paraphrase", "Oslo", " Oslo ", needed=("a",), fired=("a", "c")),
    record("paraphrase", "Oslo", "oslo", needed=("a",), fired=("c",)),
    record("entailed", "Krone", "Krone", needed=("a",), fired=("a",)),
    record("composed", "Euro", "Euro", needed=("a", "b"), fired=("a", "b")),
    record("composed", "Euro", "", needed=("a", "b"), fired=("a",)),
    record("superseded", "Bonn", "Bonn.", needed=("d",), fired=("d",)),
    record("superseded", "Bonn", "Oslo", needed=("d",), fired=("a",)),
    record("forgotten", "Bern", "Bern", fired=()),
    record("near_miss", "Lima", "Lima", fired=("a",)),
    record("near_miss", "Lima", "Oslo", fired=("a",)),
    record("far", "Bern", "Bern.", fired=(), bitwise=True),
    record("far", "Bern", "Bern", fired=(), bitwise=True),
    record("far", "Bern", "Bern", fired=(), bitwise=False),
    record("far", "Bern", "Wien", fired=("a",)),
]


def values(found: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
    return {name: (metric["value"], metric["n"]) for name, metric in found.items()}


def test_every_metric() -> None:
    assert values(score(RECORDS)) == {
        "rewrite": (1 / 2, 2),
        "paraphrase": (1 / 2, 2),
        "entailed": (1.0, 1),
        "composed": (1 / 2, 2),
        "superseded": (1 / 2, 2),
        "forgotten": (1.0, 1),
        "near_miss": (1 / 2, 2),
        "far": (3 / 4, 4),
        "far_bitwise": (2 / 3, 3),
        "false_fire": (3 / 6, 6),
        "false_change": (2 / 6, 6),
        "fired_rightly": (3 / 5, 5),
    }


def test_without_a_gate_there_is_nothing_to_say_about_it() -> None:
    found = score([replace(r, fired=None) for r in RECORDS])
    assert "false_fire" not in found and "fired_rightly" not in found
    assert values(found).items() <= values(score(RECORDS)).items()


def test_equal_records_are_each_counted() -> None:
    twice = [record("rewrite", "Oslo", "Oslo")] * 2 + [record("rewrite", "Oslo", "Rome")] * 2
    assert values(score(twice)) == {"rewrite": (0.5, 4)}


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("the United States.", True),
        ("U.S.A.", True),
        ("u s a", True),
        ("America", False),
        ("", False),
    ],
)
def test_other_names_of_the_answer_count_apart(answer: str, right: bool) -> None:
    names = ("U.S.A.",)
    asked = record("entailed", "United States", answer, accepted=names)
    found = score([asked, record("entailed", "Oslo", "oslo")])
    assert values(found) == {"entailed": (0.0, 2), "entailed_alias": (float(right), 1)}
    assert Record.of(json.loads(json.dumps(asked.row()))) == asked


def test_what_an_edit_names_counts_apart_from_what_lies_beyond_it() -> None:
    edit = "The capital of Zed is Mali."
    inverse = record("entailed", "Zed", "Zed.", needed=(edit,))
    onward = record("entailed", "Krone", "Euro", needed=("Ann lives in Kroneberg.",))
    found = values(score([inverse, inverse, onward]))
    assert found["entailed"] == (2 / 3, 3)
    assert found["entailed_inverse"] == (1.0, 2)
    assert found["entailed_onward"] == (0.0, 1)
    assert "entailed_onward" not in score([onward, onward])


def test_what_was_not_asked_is_left_out() -> None:
    assert score([]) == {}
    only = score([record("far", "a", "a", fired=())])
    assert only.keys() == {"far", "false_change", "false_fire"}


def test_every_share_has_its_interval() -> None:
    for metric in score(RECORDS).values():
        assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
    assert rate([]) is None
    assert rate([True, False, True, False]) == pytest.approx(
        {"value": 0.5, "low": 0.15004, "high": 0.84996, "n": 4}, abs=1e-4
    )


def test_probes_of_one_edit_stand_and_fall_together() -> None:
    few = [("a", 1.0)] * 50 + [("b", 0.0)] * 50
    many = [(str(i), value) for i, (_, value) in enumerate(few)]
    alone, together = mean_over_edits(many), mean_over_edits(few)
    assert alone and together and alone["value"] == together["value"] == 0.5
    assert together["low"] == 0 and together["high"] == 1 and together["n"] == 100
    assert 0.35 < alone["low"] < 0.45 and 0.55 < alone["high"] < 0.65
    sure = mean_over_edits([("a", 1.0)] * 50 + [("b", 1.0)] * 50)
    assert sure and sure["low"] < 0.5, "two edits do not tell more, however often they are asked"
    assert mean_over_edits([]) is None


def test_teacher_forced_scores_stand_beside() -> None:
    asked = [
        record("rewrite", "Oslo", "Rome", teacher_forced=0.5, likelier=True),
        record("rewrite", "Oslo", "Oslo", teacher_forced=1.0, likelier=False),
        record("rewrite", "Oslo", "Oslo"),
        record("paraphrase", "Oslo", "Rome", teacher_forced=0.25, likelier=True),
        record("near_miss", "Lima", "Lima", teacher_forced=0.5, likelier=False),
    ]
    found = values(score(asked))
    assert found["rewrite"] == (2 / 3, 3)
    assert found["rewrite_teacher_forced"] == (0.75, 2)
    assert found["paraphrase_teacher_forced"] == (0.25, 1)
    assert found["rewrite_prefers_new"] == (0.5, 2) and found["paraphrase_prefers_new"] == (1.0, 1)
    assert found["near_miss_prefers_true"] == (0.0, 1) and "near_miss_teacher_forced" not in found
    assert set(found) <= set(SHARES)


def test_retention_is_by_age() -> None:
    asked = [
        Record("ft", 100, "after_all", kind, "?", "Oslo", "Oslo" if age < 20 else "Rome", age=age)
        for kind in ("rewrite", "paraphrase", "entailed")
        for age in (0, 5, 9, 10, 11, 19, 20, 95, 99)
    ]
    asked.append(Record("ft", 100, "after_all", "rewrite", "?", "Oslo", "Oslo"))  # has no age
    found = retention(asked)
    assert values({str(age): share for age, share in found.items()}) == {
        "0": (1.0, 6),
        "10": (1.0, 6),
        "20": (0.0, 2),
        "90": (0.0, 4),
    }
    assert retention(asked[:3], parts=1) == {0: rate([True] * 3)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Oslo.", "Oslo"),
        (" Oslo . ", "Oslo"),
        ("Oslo", "Oslo"),
        ("U.S..", "U.S."),
        ("", ""),
        (".", ""),
    ],
)
def test_the_closing_period_does_not_count(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_a_record_is_saved_as_it_is() -> None:
    row = json.loads(json.dumps(RECORDS[0].row()))
    assert row["needed"] == ["a"] and row["bitwise"] is None and row["answer"] == "Oslo."
    assert [Record.of({"seed": 1, **json.loads(json.dumps(r.row()))}) for r in RECORDS] == RECORDS


def test_harmonic_mean() -> None:
    shares = {"rewrite": 0.5, "far": 1.0, "entailed": 0.0}
    assert harmonic_mean(shares) == pytest.approx(2 / 3), "what is entailed stands beside it"
    assert harmonic_mean(shares | {"near_miss": 0.0}) == 0.0 and harmonic_mean({}) is None
