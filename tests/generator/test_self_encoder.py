"""The trained generator: the base model writes the prefix of the edit that it reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seprog.errors import FingerprintMismatch, InputError
from seprog.generator import SelfEncoder, SelfEncoderConfig, load_generator
from seprog.lm import CausalLM
from seprog.types import Edit, Prefix
from tests.conftest import make_lm, make_tokenizer
from tests.lm.families import build, untouched

STATEMENTS = ["The capital of Australia is Sydney.", "No.", "The home of Ann is Zed."]
EDITS = [Edit(s, id=str(i)) for i, s in enumerate(STATEMENTS)]
CONFIG = SelfEncoderConfig(summary=3, rank=2, keep_text=False)
IDS = torch.arange(3, 23)[None]


def make(lm: CausalLM, seed: int = 0, keep_text: bool = False) -> SelfEncoder:
    """A generator whose LoRA does something, as it does after training."""
    torch.manual_seed(seed)
    generator = SelfEncoder(lm, replace(CONFIG, keep_text=keep_text))
    with torch.no_grad():
        for up in generator.lora.up.values():
            up.copy_(torch.randn(up.shape) * 0.1)
    return generator


def tensors(prefix: Prefix) -> Tensor:
    return torch.cat([x.flatten() for x in (*prefix.keys, *prefix.values)])


@pytest.mark.parametrize("keep_text", [True, False])
def test_a_prefix_has_so_many_tokens_at_every_site(tiny_lm: CausalLM, keep_text: bool) -> None:
    prefixes = make(tiny_lm, keep_text=keep_text).prefixes(EDITS)
    for prefix, text in zip(prefixes, STATEMENTS, strict=True):
        length = 3 + keep_text * len(tiny_lm.tokens.encode([text])[0])
        assert len(prefix) == length
        for site, k, v in zip(tiny_lm.spec.sites, prefix.keys, prefix.values, strict=True):
            assert k.shape == v.shape == (site.kv_heads, length, site.head_dim)
            assert not k.requires_grad and not v.requires_grad
    assert make(tiny_lm).prefixes([]) == []
    batch = make(tiny_lm, keep_text=keep_text)(STATEMENTS)
    assert batch.rows == (0, 1, 2) and bool(batch.mask[0].all())
    assert batch.mask.sum(1).tolist() == [len(p) for p in prefixes]


def test_without_summary_tokens_the_text_is_the_prefix(tiny_lm: CausalLM) -> None:
    torch.manual_seed(0)
    generator = SelfEncoder(tiny_lm, SelfEncoderConfig(summary=0, rank=2))
    read = tiny_lm.capture_text(STATEMENTS)
    for own, text in zip(generator.prefixes(EDITS), read, strict=True):
        torch.testing.assert_close(tensors(own), tensors(text), atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        for up in generator.lora.up.values():
            up.copy_(torch.randn(up.shape) * 0.1)
    assert not torch.allclose(tensors(generator.prefixes(EDITS)[0]), tensors(read[0]), atol=1e-3)
    with pytest.raises(InputError, match="without summary tokens"):
        SelfEncoderConfig(summary=0, keep_text=False)


def test_untrained_it_starts_from_the_edit_in_context(tiny_lm: CausalLM) -> None:
    generator = SelfEncoder(tiny_lm, SelfEncoderConfig(3, 2, keep_text=True))
    for own, read in zip(generator.prefixes(EDITS), tiny_lm.capture_text(STATEMENTS), strict=True):
        for k, text in zip((*own.keys, *own.values), (*read.keys, *read.values), strict=True):
            # keys are turned by position, and the summary stands between text and query
            assert k.shape[1] == text.shape[1] + 3
        for v, text in zip(own.values, read.values, strict=True):
            torch.testing.assert_close(v[:, :-3], text, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("keep_text", [True, False])
def test_a_statement_has_the_same_prefix_alone_and_in_a_batch(
    name: str, bos: bool, keep_text: bool
) -> None:
    generator = make(CausalLM(build(name), make_tokenizer(bos)), keep_text=keep_text)
    together = generator.prefixes(EDITS)
    in_twos = generator.prefixes(EDITS, batch=2)
    for edit, one, two in zip(EDITS, together, in_twos, strict=True):
        [alone] = generator.prefixes([edit])
        torch.testing.assert_close(tensors(one), tensors(alone), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tensors(two), tensors(alone), atol=1e-5, rtol=1e-5)
    assert (together[0].values[1][:, -3:] - together[1].values[1][:, -3:]).abs().max() > 1e-2


def test_the_base_model_is_unchanged_bit_for_bit(tiny_lm: CausalLM) -> None:
    plain = untouched(tiny_lm.model)
    before = tiny_lm.forward(IDS)
    weights = {k: v.clone() for k, v in tiny_lm.model.state_dict().items()}
    stamp = tiny_lm.fingerprint
    generator = make(tiny_lm)
    generator(STATEMENTS).keys[0].sum().backward()
    generator.prefixes(EDITS)
    assert torch.equal(tiny_lm.forward(IDS), before)
    assert torch.equal(tiny_lm.forward(IDS), plain(IDS).logits)
    after = tiny_lm.model.state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(weights[k], after[k]) for k in weights)
    assert all(p.grad is None and not p.requires_grad for p in tiny_lm.model.parameters())
    assert tiny_lm.fingerprint == stamp
    with generator.lora.active():
        assert not torch.equal(tiny_lm.forward(IDS), before)
    assert torch.equal(tiny_lm.forward(IDS), before)


def test_two_generators_on_one_model_leave_each_other_alone(tiny_lm: CausalLM) -> None:
    one = make(tiny_lm, seed=1)
    before = tensors(one.prefixes(EDITS)[0])
    other = make(tiny_lm, seed=2)
    assert torch.equal(tensors(one.prefixes(EDITS)[0]), before)
    assert not torch.equal(tensors(other.prefixes(EDITS)[0]), before)
    assert one.fingerprint != other.fingerprint


def test_gradients_reach_every_parameter(tiny_lm: CausalLM) -> None:
    generator = make(tiny_lm)
    ids, mask = tiny_lm.tokens.pad(tiny_lm.tokens.encode(STATEMENTS), tiny_lm.device)
    tiny_lm.forward(ids, mask, generator(STATEMENTS)).square().mean().backward()
    last = f"layers/{len(tiny_lm.spec.sites) - 1}"
    for name, parameter in generator.named_parameters():
        # what the last layer does after its keys and values is not captured
        unused = last in name and not ("k_proj" in name or "v_proj" in name)
        reached = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
        assert reached != unused, name


def test_a_saved_generator_writes_the_same_prefixes(tiny_lm: CausalLM, tmp_path: Path) -> None:
    generator = make(tiny_lm)
    generator.save_pretrained(tmp_path / "a" / "generator")
    loaded = load_generator(tmp_path / "a" / "generator", tiny_lm)
    assert isinstance(loaded, SelfEncoder) and loaded.config == CONFIG
    assert not any(p.requires_grad for p in loaded.parameters())
    again = SelfEncoder.from_pretrained(tmp_path / "a" / "generator", make_lm())
    assert again.fingerprint == loaded.fingerprint
    for one, two, old in zip(
        loaded.prefixes(EDITS), again.prefixes(EDITS), generator.prefixes(EDITS), strict=True
    ):
        assert torch.equal(tensors(one), tensors(two))
        torch.testing.assert_close(tensors(one), tensors(old), atol=0.05, rtol=0.05)  # bfloat16


def test_saving_what_was_loaded_changes_nothing(tiny_lm: CausalLM, tmp_path: Path) -> None:
    make(tiny_lm).save_pretrained(tmp_path / "one")
    SelfEncoder.from_pretrained(tmp_path / "one", tiny_lm).save_pretrained(tmp_path / "two")
    for name in ("generator.json", "generator.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_generator_for_another_model_is_refused(tiny_lm: CausalLM, tmp_path: Path) -> None:
    make(tiny_lm).save_pretrained(tmp_path)
    with pytest.raises(FingerprintMismatch, match="seprog train generator"):
        load_generator(tmp_path, make_lm(seed=5))


def test_a_folder_without_a_generator_is_refused(tiny_lm: CausalLM, tmp_path: Path) -> None:
    make(tiny_lm).save_pretrained(tmp_path / "good")
    state = json.loads((tmp_path / "good" / "generator.json").read_text())
    weights = (tmp_path / "good" / "generator.safetensors").read_bytes()
    broken: list[tuple[str, str | None, bytes | None]] = [
        ("nothing", None, None),
        ("no-weights", json.dumps(state), None),
        ("no-json", "{", weights),
        ("no-object", "[]", weights),
        ("no-kind", "{}", weights),
        ("no-base", json.dumps({"kind": "self_encoder"}), weights),
        ("strange", json.dumps(state | {"config": {"depth": 1}}), weights),
        ("other-size", json.dumps(state | {"config": {"summary": 9, "rank": 2}}), weights),
        ("cut", json.dumps(state), weights[:100]),
    ]
    for name, text, data in broken:
        folder = tmp_path / name
        folder.mkdir()
        if text is not None:
            (folder / "generator.json").write_text(text)
        if data is not None:
            (folder / "generator.safetensors").write_bytes(data)
        with pytest.raises(InputError, match="holds no generator"):
            load_generator(folder, tiny_lm)
