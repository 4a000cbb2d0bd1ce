"""Importers of editing cases, on small files in the published forms."""

from __future__ import annotations

import gzip
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from seprog.data.cases import Asked, Correction, load_cases, load_folder, texts
from seprog.data.counterfact import FLAT as FLAT_FORM
from seprog.data.importers import IMPORTERS
from seprog.data.knowedit import KNOWEDIT as KNOWEDIT_FORM
from seprog.errors import InputError

MEND: dict[str, Any] = {
    "subject": "UniFirst",
    "src": "What does UniFirst make?",
    "pred": "uniform",
    "rephrase": "What will UniFirst make?",
    "alt": "aircraft",
    "answers": ["uniform"],
    "loc": "nq question: who is walter",
    "loc_ans": "Walter Sobchak",
    "cond": "uniform >> aircraft || What does UniFirst make?",
    "portability": {"New Question": "Does UniFirst fly?", "New Answer": "Yes"},
}
ANNOTATED: dict[str, Any] = {
    "case_id": "zsre_0",
    "source_case_id": "x",
    "prompt": "Which state is Pyhrn Pass in?",
    "subject": "Pyhrn Pass",
    "target_new": "Saxony",
    "ground_truth": "Styria",
    "rephrase_prompt": ["What state is Pyhrn Pass?", "Whose is Pyhrn Pass?"],
    "locality": [{"prompt": "Where does Hammarby play?", "ground_truth": "Hammarby IP"}],
}
COUNTERFACT: dict[str, Any] = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "target_new": {"str": "English"},
        "target_true": {"str": "French"},
        "subject": "Danielle",
    },
    "paraphrase_prompts": ["It rained. Danielle, a native"],
    "neighborhood_prompts": ["The mother tongue of Léon is"],
}
FLAT: dict[str, Any] = {
    "case_id": 7,
    "prompt": "The mother tongue of Danielle is",
    "target_new": "English",
    "subject": "Danielle",
    "ground_truth": "French",
    "rephrase_prompt": "Where Danielle is from, people speak",
    "locality_prompt": "Léon is a native speaker of",
    "locality_ground_truth": "French",
}
KNOWEDIT: dict[str, Any] = {
    "subject": "Leo",
    "prompt": "The country of Leo is",
    "target_new": "Syria",
    "ground_truth": "America",
    "generate_prompt": ["1. Which country is Leo's?"],
    "portability": {
        "Reasoning": [{"prompt": "The capital of Leo's country is", "ground_truth": [["Damascus"]]}]
    },
    "locality": {
        "Forgetfulness": [
            {
                "prompt": "The country of Leo, not Syria, is",
                "ground_truth": [["US", "USA"], ["US"]],
            },
            {"prompt": "Blank", "ground_truth": ""},
        ]
    },
}
KNOWEDIT_ZSRE: dict[str, Any] = {
    "subject": "Javan surili",
    "target_new": "rare",
    "prompt": "What is the status of Javan surili?",
    "ground_truth": ["endangered"],
    "rephrase_prompt": "2. How is Javan surili doing?",
    "cond": "safe >> rare || What is the status of Javan surili?",
    "locality": {"Relation_Specificity": [{"prompt": "Javan surili rank", "ground_truth": ["A"]}]},
    "portability": {"Reasoning": [{"prompt": "Is Javan surili rare?", "ground_truth": "Yes"}]},
}
MQUAKE: dict[str, Any] = {
    "case_id": 1,
    "requested_rewrite": [
        {
            "prompt": "{} is a citizen of",
            "target_new": {"str": "Croatia"},
            "target_true": {"str": "America"},
            "subject": "Ellie",
            "question": "What is Ellie's country?",
        }
    ],
    "questions": ["Who leads Ellie's country?"],
    "new_answer": "Kolinda",
    "new_answer_alias": ["K."],
}
JOINED: dict[str, Any] = {
    "case_id": 3,
    "edits": [
        {
            "question": "What is the capital of X?",
            "statement": "The capital of X is Y",
            "target_new": "Y",
        },
        {"question": "Who made Y?", "statement": "Y, by Z, stands", "target_new": "Z"},
    ],
    "questions": ["Who made the capital of X?"],
    "new_answer": "Z",
}
RIPPLE: dict[str, Any] = {
    "edit": {
        "prompt": "The name of the head of state of X is Max.",
        "relation": "HEAD_OF_STATE",
        "original_fact": {
            "prompt": "The name of the head of state of X is Moritz.",
            "relation": "HEAD_OF_STATE",
        },
    },
    "Relation_Specificity": [
        {
            "test_queries": [
                {"prompt": "The home of X is", "answers": [{"value": "Z", "aliases": ["Zed"]}]},
                {"prompt": "The age of X is", "answers": []},
            ]
        }
    ],
    "Compositionality_I": [
        {
            "test_queries": [
                {
                    "prompt": "The wife of the king of X is",
                    "answers": [{"value": "Ann", "aliases": []}],
                }
            ]
        }
    ],
}
ROWS = {
    "zsRE (MEND)": MEND,
    "zsRE (annotated)": ANNOTATED,
    "CounterFact": COUNTERFACT,
    "CounterFact (flat)": FLAT,
    "KnowEdit": KNOWEDIT,
    "KnowEdit (ZsRE)": KNOWEDIT_ZSRE,
    "MQuAKE-CF": MQUAKE,
    "MQuAKE-CF (joined)": JOINED,
    "RippleEdits": RIPPLE,
}


def read(path: Path, *rows: dict[str, Any]) -> Any:
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return load_cases(path)


@pytest.mark.parametrize("name", ROWS)
def test_a_case_asks_for_its_own_edits_first(name: str, tmp_path: Path) -> None:
    [case] = read(tmp_path / "rows.jsonl", ROWS[name])
    assert case.id and case.edits
    own = [a for a in case.asked if a.kind == "rewrite"]
    assert [(a.prompt, a.answers) for a in own] == [(e.prompt, (e.target,)) for e in case.edits]
    assert case.asked[0] == own[0]
    assert all(a.prompt and a.answers and a.group for a in case.asked)
    outside = [a for a in case.asked if a.kind in ("near_miss", "far")]
    assert not any(e.target in a.answers for a in outside for e in case.edits)


def test_what_is_asked(tmp_path: Path) -> None:
    def kinds(row: dict[str, Any]) -> list[tuple[str, str, tuple[str, ...]]]:
        [case] = read(tmp_path / "rows.jsonl", row)
        return [(a.kind, a.prompt, a.answers) for a in case.asked[len(case.edits) :]]

    assert kinds(MEND) == [
        ("paraphrase", "What will UniFirst make?", ("aircraft",)),
        ("entailed", "Does UniFirst fly?", ("Yes",)),
        ("far", "who is walter", ("Walter Sobchak",)),
    ]
    assert kinds(COUNTERFACT) == [
        ("paraphrase", "It rained. Danielle, a native", ("English",)),
        ("near_miss", "The mother tongue of Léon is", ("French",)),
    ]
    assert kinds(KNOWEDIT) == [
        ("paraphrase", "Which country is Leo's?", ("Syria",)),
        ("entailed", "The capital of Leo's country is", ("Damascus",)),
        ("near_miss", "The country of Leo, not Syria, is", ("US", "USA")),
    ]
    assert kinds(KNOWEDIT_ZSRE) == [
        ("paraphrase", "2. How is Javan surili doing?", ("rare",)),
        ("entailed", "Is Javan surili rare?", ("Yes",)),
        ("near_miss", "Javan surili rank", ("A",)),
    ]
    assert kinds(MQUAKE)[1:] == [("composed", "Who leads Ellie's country?", ("Kolinda", "K."))]
    assert kinds(RIPPLE) == [
        ("composed", "The wife of the king of X is", ("Ann",)),
        ("near_miss", "The home of X is", ("Z", "Zed")),
    ]


def test_edits_say_what_was_true(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    [case] = read(path, COUNTERFACT)
    assert case.edits == (
        Correction("The mother tongue of Danielle is", "English", "Danielle", ("French",)),
    )
    [case] = read(path, JOINED)
    assert [e.prompt for e in case.edits] == ["The capital of X is", "Who made Y?"]
    [case] = read(path, {**JOINED, "new_answer": None})
    assert {a.kind for a in case.asked} == {"rewrite", "paraphrase"}


@pytest.mark.parametrize("field", ["original_fact", "previous_fact"])
@pytest.mark.parametrize(
    ("relation", "prompt", "target", "truth"),
    [
        ("HEAD_OF_STATE", "The name of the head of state of X is", "Max", "Moritz"),
        ("COUNTRY", "The name of the country which X is associated with is", "Y", "Z"),
        ("AUTHOR", "The name of the author of Hell is Other People is", "Max Is", "Max Or Jr."),
        ("AUTHOR", "The name of the author of The Kids are Ours, which is, is", "Max", "Ann"),
        ("SIBLING", "The names of the siblings of Prince are", "Tyka", "Omarr"),
        ("CAST_MEMBER", "The names of the cast members of Life is Good are", "Ann", "Bo"),
        ("FOLLOWS", "Soviet Union follows", "What is Art", "Russian Empire"),
        ("FOLLOWED_BY", "Big Mouth is followed by", "Foo", "This is Us"),
        ("FOLLOWED_BY", "Big Mouth is followed by", "This is Us", "Foo"),
        ("FATHER", "The name of the father of X is", "What is Left", "Who Knows"),
    ],
)
def test_a_statement_is_split_where_its_answer_begins(
    field: str, relation: str, prompt: str, target: str, truth: str, tmp_path: Path
) -> None:
    def case(target: str, truth: str | None) -> Any:
        edit: dict[str, Any] = {"prompt": f"{prompt} {target}.", "relation": relation}
        if truth is not None:
            edit[field] = {"prompt": f"{prompt} {truth}.", "relation": relation}
        [case] = read(tmp_path / "rows.jsonl", {**RIPPLE, "edit": edit})
        return case

    expected = Correction(prompt, target, truth=(truth,), relation=relation)
    assert case(target, truth).edits == (expected,)
    assert case(target, truth).asked[0] == Asked("rewrite", prompt, (target,), "edit")
    assert case(target, "").edits == (Correction(prompt, target, relation=relation),)
    if " is " not in target or relation == "FOLLOWED_BY" or relation == "FOLLOWS":
        assert case(target, None).edits == (Correction(prompt, target, relation=relation),)


@pytest.mark.parametrize("prompt", ["Max rules X.", "The name of the king of X is .", "is Max."])
def test_a_statement_without_an_answer_is_refused(prompt: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Row 2"):
        read(tmp_path / "rows.jsonl", RIPPLE, {**RIPPLE, "edit": {"prompt": prompt}})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"rephrase_prompt": "Whose is Leo?"}, ["Whose is Leo?"]),
        ({"rephrase": ["Whose is Leo?", "Leo's?", " "]}, ["Whose is Leo?", "Leo's?"]),
        ({"rephrase": "Whose is Leo?", "rephrase_prompt": "Whose is Leo?"}, ["Whose is Leo?"]),
        ({"generate_prompt": ["3. Whose?"], "rephrase": "4. FC is"}, ["Whose?", "4. FC is"]),
        ({"rephrase_prompt": None}, []),
    ],
)
def test_paraphrases_have_several_names(
    fields: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    row = {k: v for k, v in KNOWEDIT.items() if k != "generate_prompt"} | fields
    [case] = read(tmp_path / "rows.jsonl", row)
    assert [a.prompt for a in case.asked if a.kind == "paraphrase"] == expected


def test_files_may_be_arrays_or_gzipped(tmp_path: Path) -> None:
    lines = read(tmp_path / "a.jsonl", FLAT, FLAT)
    (tmp_path / "b.json").write_text(json.dumps([FLAT, FLAT]))
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(json.dumps([FLAT, FLAT], indent=1).encode()))
    assert lines == load_cases(tmp_path / "b.json") == load_cases(tmp_path / "c.json.gz")


def test_a_row_known_to_be_faulty_is_left_out(tmp_path: Path) -> None:
    assert len(read(tmp_path / "rows.jsonl", MEND, {**MEND, "alt": ""}, MEND)) == 2


UNREAD = {"Relation_Specificity", "Compositionality_I", "source_case_id", "cond"}
"""Fields that only tell what a row is."""


@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_row_is_named(name: str, tmp_path: Path) -> None:
    importer = next(i for i in IMPORTERS if i.name == name)
    for key in importer.fields - UNREAD:
        wrong = {k: v for k, v in ROWS[name].items() if k != key}
        with pytest.raises(InputError, match=r"Row 2 of .*rows\.jsonl"):
            read(tmp_path / "rows.jsonl", ROWS[name], wrong)
        if key != "case_id":
            with pytest.raises(InputError, match="Row 2"):
                read(tmp_path / "rows.jsonl", ROWS[name], {**ROWS[name], key: 7})


def test_what_no_importer_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="zsRE"):
        read(tmp_path / "rows.jsonl", {"question": "Who?"})
    with pytest.raises(InputError, match="empty"):
        read(tmp_path / "rows.jsonl")
    for content, match in {
        "7": "no fields",
        '["a", "b"]': "no fields",
        "seven": "Row 1",
        '{\n "a": 1,\n "b": [\n2]\n}\n': "the fields a, b",
        '{\n "a": 1,\n': "Row 1",
    }.items():
        (tmp_path / "rows.jsonl").write_text(content)
        with pytest.raises(InputError, match=match):
            load_cases(tmp_path / "rows.jsonl")


STRAYS = {
    "dataset_infos.json": json.dumps({"default": {"rows": 3}}, indent=2),
    "one_line.json": '{"default": {"rows": 3}}',
    "vocabulary.json": '["a", "b"]',
    "version.json": "3",
    "empty.json": "",
    "nothing.json": "[]",
    "rows.jsonl.lock": "not JSON",
    "rows.json.metadata": "not JSON",
}


def test_what_is_asked_for_is_found_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "deep"):
        for name, content in STRAYS.items():
            (folder / name).write_text(content)
    for name, row in ROWS.items():
        (tmp_path / "deep" / f"{name}.json").write_text(json.dumps([row]))
    late = {**FLAT, "case_id": 8}
    (tmp_path / "deep" / "er" / "a.jsonl").write_text(f"{json.dumps(FLAT)}\n{json.dumps(late)}\n")
    found = load_folder(tmp_path, [FLAT_FORM])
    assert [[c.id for c in cases] for cases in found] == [["7"], ["7", "8"]]
    for importer in IMPORTERS:
        assert len(load_folder(tmp_path / "deep", [importer])) >= 1
    assert len(load_folder(tmp_path, [KNOWEDIT_FORM])) == 1, "ZsRE has another form"


def test_a_file_without_cases_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({**MEND, "alt": ""}))
    assert load_folder(tmp_path, IMPORTERS) == []


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("wrong", ['{"case_id": 1}', "7", "[]", "not JSON"])
def test_a_wrong_row_among_right_ones_is_never_passed_over(
    place: int, wrong: str, tmp_path: Path
) -> None:
    rows = [json.dumps(FLAT)] * 2
    rows.insert(place, wrong)
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    if place == 0 and wrong == "[]":
        match = "could not be read"
    else:
        match = rf"Row {place + 1} of .*rows\.jsonl"
    with pytest.raises(InputError, match=match):
        load_folder(tmp_path, [FLAT_FORM])


def test_no_two_importers_claim_one_form() -> None:
    for a, b in combinations(IMPORTERS, 2):
        assert a.fields != b.fields and a.name != b.name
    for name, row in ROWS.items():
        fits = [i for i in IMPORTERS if i.fields <= row.keys()]
        assert max(fits, key=lambda i: len(i.fields)).name == name


def test_texts_are_flat_and_without_repeats() -> None:
    assert texts([["a", " b "], ["a"], "", "c"]) == ("a", "b", "c")
    assert texts("a") == ("a",) and texts(None) == () and texts("") == ()


def test_asked_is_plain_data() -> None:
    assert Asked("far", "Who?", ("x",)) == Asked("far", "Who?", ("x",), "")
