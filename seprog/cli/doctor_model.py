"""``seprog doctor MODEL``: load a base model and try on it what seprog promises."""

from __future__ import annotations

import torch
from transformers.utils import logging

from seprog.cli.common import check_device
from seprog.cli.doctor import Check, failed
from seprog.errors import SeprogError
from seprog.lm import CausalLM, LanguageModel, load_lm
from seprog.lm.injection import PREFIX
from seprog.types import Prefix, PrefixBatch

TEXT = "The capital of Australia is Lyon. "
QUERIES = ("What is the capital of Australia?", "Who wrote Hamlet?", "Hi")
TOLERANCE = 1e-3
"""Largest difference of logits, as a part of the largest logit, that rounding explains."""

_REPORT = "Choose another base model, and report this one with its config.json"


def model_checks(model: str, device: str) -> list[Check]:
    """Load the model and try it; no text is generated."""
    logging.disable_progress_bar()
    try:
        check_device(device)
        lm = load_lm(model, dtype="float32", device=device)
        with torch.no_grad():
            checks = [shape(lm, model), untouched(lm), mixed(lm)]
            # the context of an encoder would see the query, its prefix does not
            return [*checks, injected(lm)] if isinstance(lm, CausalLM) else checks
    except SeprogError as error:
        return [failed("model", error)]


def shape(lm: LanguageModel, name: str) -> Check:
    """What a prefix for the model looks like."""
    size = lm.spec.bytes_per_token(torch.finfo(lm.dtype).bits // 8)
    kinds = sorted({f"{s.kv_heads} heads of {s.head_dim}" for s in lm.spec.sites})
    detail = (
        f"{name}: {len(lm.spec.sites)} attention sites ({', '.join(kinds)}), "
        f"{size} bytes per virtual token in float32, positions: {lm.positions}"
    )
    return Check("model", True, detail)


def _batch(lm: LanguageModel) -> tuple[torch.Tensor, torch.Tensor]:
    return lm.tokens.pad(lm.tokens.encode(QUERIES), lm.device)


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
    [prefix] = lm.capture_text([TEXT])
    rows: list[Prefix | None] = [prefix] + [None] * (len(QUERIES) - 1)
    before, after = lm.forward(ids, mask), lm.forward(ids, mask, PrefixBatch.stack(rows))
    same, moved = torch.equal(before[1:], after[1:]), not torch.equal(before[0], after[0])
    detail = (
        "the other rows of a batch stay as they are, bit for bit"
        if same
        else "a prefix on one row of a batch changes other rows"
    )
    if not moved:
        detail = "a prefix changes nothing"
    return Check("mixed batch", same and moved, detail, _REPORT)


def injected(lm: LanguageModel) -> Check:
    """The captured prefix of a text does what the text in the context does."""
    [text], [query] = lm.tokens.encode([TEXT]), lm.tokens.encode([QUERIES[0]], bos=False)
    whole = torch.tensor([text + query], device=lm.device)
    expected = lm.forward(whole)[:, -len(query) :]
    prefixes = PrefixBatch.stack(lm.capture_text([TEXT]))
    found = lm.forward(whole[:, -len(query) :], prefixes=prefixes)
    difference = float((expected - found).abs().max())
    ok = difference <= TOLERANCE * max(1.0, float(expected.abs().max()))
    detail = f"a captured text is that text in the context, up to {difference:.1e}"
    return Check("capture and inject", ok, detail, _REPORT)
