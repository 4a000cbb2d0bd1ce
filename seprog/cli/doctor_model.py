"""``seprog doctor MODEL``: load a base model and try on it what seprog promises."""

from __future__ import annotations

from dataclasses import replace

import torch
from transformers.utils import logging

from seprog.cli.common import check_device
from seprog.cli.doctor import Check, failed
from seprog.errors import SeprogError
from seprog.lm import CausalLM, LanguageModel, Seq2SeqLM, load_lm
from seprog.lm.injection import PREFIX
from seprog.types import Prefix, PrefixBatch, PrefixSpec

TEXT = "The capital of Australia is Lyon. "
QUERIES = ("What is the capital of Australia?", "Who wrote Hamlet?", "Hi")
TOLERANCE = 1e-3
"""Largest difference of logits, as a part of the largest logit, that rounding explains."""
TOKENS = 6
"""How many the model writes."""

_REPORT = "Choose another base model, and report this one with its config.json"


def model_checks(model: str, device: str) -> list[Check]:
    """Load the model and try it; one that writes writes a few tokens."""
    logging.disable_progress_bar()
    try:
        check_device(device)
        lm = load_lm(model, dtype="float32", device=device)
        with torch.no_grad():
            checks = [shape(lm, model), untouched(lm), mixed(lm), masked(lm)]
            if isinstance(lm, CausalLM):  # another's context would see the query, its prefix not
                checks.append(injected(lm))
            return [*checks, written(lm)] if lm.generates else checks
    except SeprogError as error:
        return [failed("model", error)]


def shape(lm: LanguageModel, name: str) -> Check:
    """What a prefix for the model looks like."""
    kinds = sorted({f"{s.kv_heads} heads of {s.head_dim}" for s in lm.spec.sites})
    detail = (
        f"{name}: {len(lm.spec.sites)} attention sites ({', '.join(kinds)}), "
        f"{_size(lm, lm.spec)} bytes per virtual token in float32, positions: {lm.positions}"
    )
    parts = lm.parts if isinstance(lm, Seq2SeqLM) else {}
    for part, spec in parts.items():
        detail += f"; {part}: {len(spec.sites)} sites, {_size(lm, spec)} bytes"
    return Check("model", True, detail)


def _size(lm: LanguageModel, spec: PrefixSpec) -> int:
    """Bytes of one virtual token."""
    return spec.bytes_per_token(torch.finfo(lm.dtype).bits // 8)


def _batch(lm: LanguageModel) -> tuple[torch.Tensor, torch.Tensor]:
    return lm.tokens.pad(lm.tokens.encode(QUERIES), lm.device)


def _first_row(lm: LanguageModel) -> PrefixBatch:
    """A prefix for the first row of the batch alone."""
    [prefix] = lm.capture_text([TEXT])
    rows: list[Prefix | None] = [prefix] + [None] * (len(QUERIES) - 1)
    found = PrefixBatch.stack(rows)
    assert found is not None
    return found


def _apart(found: torch.Tensor, expected: torch.Tensor) -> tuple[bool, str]:
    """Whether rounding explains how far logits are from what they should be, and how far."""
    difference = float((expected - found).abs().max())
    return difference <= TOLERANCE * max(1.0, float(expected.abs().max())), f"{difference:.1e}"


def untouched(lm: LanguageModel) -> Check:
    """Without prefixes, the logits are those of transformers' own attention, bit for bit."""
    ids, mask = _batch(lm)
    ours = lm.forward(ids, mask)
    attention = lm.model.config.get_text_config()._attn_implementation
    lm.model.set_attn_implementation(attention.removeprefix(PREFIX))
    try:
        theirs = lm.forward(ids, mask)
    finally:
        lm.model.set_attn_implementation(attention)
    same = torch.equal(ours, theirs)
    detail = "logits are the base model's, bit for bit" if same else "logits differ"
    return Check("no edit", same, detail, _REPORT)


def mixed(lm: LanguageModel) -> Check:
    """A prefix on one row changes that row, and not a bit of the others."""
    ids, mask = _batch(lm)
    before, after = lm.forward(ids, mask), lm.forward(ids, mask, _first_row(lm))
    same, moved = torch.equal(before[1:], after[1:]), not torch.equal(before[0], after[0])
    detail = (
        "the other rows of a batch stay as they are, bit for bit"
        if same
        else "a prefix on one row of a batch changes other rows"
    )
    if not moved:
        detail = "a prefix changes nothing"
    return Check("mixed batch", same and moved, detail, _REPORT)


def masked(lm: LanguageModel) -> Check:
    """A prefix of which every virtual token is masked changes nothing."""
    ids, mask = _batch(lm)
    prefixes = _first_row(lm)
    hidden = replace(prefixes, mask=torch.zeros_like(prefixes.mask))
    ok, difference = _apart(lm.forward(ids, mask, hidden), lm.forward(ids, mask))
    detail = f"a prefix that is masked is none, up to {difference}"
    return Check("masked prefix", ok, detail, _REPORT)


def injected(lm: LanguageModel) -> Check:
    """The captured prefix of a text does what the text in the context does."""
    [text], [query] = lm.tokens.encode([TEXT]), lm.tokens.encode([QUERIES[0]], bos=False)
    whole = torch.tensor([text + query], device=lm.device)
    expected = lm.forward(whole)[:, -len(query) :]
    prefixes = PrefixBatch.stack(lm.capture_text([TEXT]))
    found = lm.forward(whole[:, -len(query) :], prefixes=prefixes)
    ok, difference = _apart(found, expected)
    detail = f"a captured text is that text in the context, up to {difference}"
    return Check("capture and inject", ok, detail, _REPORT)


def written(lm: LanguageModel) -> Check:
    """Behind a prefix the model writes the same with and without its cache."""
    ids, mask = _batch(lm)
    kept, anew = (
        lm.generate_ids(
            ids, mask, _first_row(lm), max_new_tokens=TOKENS, num_beams=1, use_cache=cache
        )
        for cache in (True, False)
    )
    same = torch.equal(kept, anew)
    detail = f"{TOKENS} tokens are the same with and without a cache" if same else "tokens differ"
    return Check("writing", same, detail, _REPORT)
