"""Reading FEVER."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seprog.data.fever import SHARES, Claim, Pair, load_fever
from seprog.errors import InputError
from tests.data.claims import PAGES, write


def test_parts_share_no_page(tmp_path: Path) -> None:
    parts = load_fever(write(tmp_path))
    pages = [{c.page for c in fever.claims} for fever in parts.values()]
    assert sum(map(len, pages)) == len(set().union(*pages)) == 40
    assert [len(p) for p in pages] == [round(40 * share) for share in SHARES.values()]
    claims = [c for fever in parts.values() for c in fever.claims]
    assert len(claims) == 200 and sum(not c.holds for c in claims) == 80
    assert {c.line for c in claims} == {0, 1, 2, 3}
    for fever in parts.values():
        titles = {c.page.split("_-")[0].replace("_", " ") for c in fever.claims}
        assert {p.wrong.rsplit(" is ", 1)[0] for p in fever.pairs} == titles
    pairs = [p for fever in parts.values() for p in fever.pairs]
    for i, page in enumerate(PAGES):  # whatever the sentence says that they come with
        assert Pair(f"Page {i} is red.", f"Page {i} is blue.", page, 3) in pairs


def test_pairs_whose_claims_have_no_labels_or_contradict_them_are_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    sides = [
        {"label": label, "claim": claim, "evidence_sentence": f"Of {claim.split()[1]}."}
        for page, thing in ((3, "cat"), (4, "king"))
        for label, claim in (
            ("SUPPORTS", f"Page {page} has a {thing} ."),
            ("REFUTES", f"Page {page} has a {'dog' if page == 3 else 'author'} ."),
        )
    ]
    (tmp_path / "symmetric_v0.1_full.jsonl").write_text("\n".join(map(json.dumps, sides)))
    assert not any(fever.pairs for fever in load_fever(tmp_path).values())


def test_a_claim_as_an_edit() -> None:
    claim = Claim("Ann sings.", True, "Ann", 0)
    assert claim.stated(True) == "Ann sings."
    assert claim.stated(False) == "It is not true that Ann sings."


def test_pairs_are_not_needed_but_claims_are(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "symmetric_v0.1_full.jsonl").unlink()
    assert not any(fever.pairs for fever in load_fever(tmp_path).values())
    (tmp_path / "paper_dev.jsonl.gz").unlink()
    with pytest.raises(InputError, match="paper_dev"):
        load_fever(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"label": "MAYBE", "claim": "Ann sings.", "evidence": [[[1, 2, "Ann", 0]]]},
        {"label": "SUPPORTS", "claim": "Ann sings.", "evidence": []},
        {"label": "SUPPORTS", "claim": 7, "evidence": [[[1, 2, "Ann", 0]]]},
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    (tmp_path / "paper_dev.jsonl").write_text(json.dumps(wrong))
    with pytest.raises(InputError, match="Row 1"):
        load_fever(tmp_path)
