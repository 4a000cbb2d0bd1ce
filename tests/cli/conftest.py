"""A command line over a tiny random model, a tiny random encoder and a gate that says yes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from typer.testing import CliRunner, Result

from seprog.cli import common
from seprog.cli.main import app
from seprog.editor import Editor
from seprog.gate import ScopeGate
from seprog.lm import CausalLM, load_lm
from seprog.memory import Memory
from seprog.text_encoder import TextEncoder
from tests.conftest import make_tokenizer
from tests.lm.families import VOCAB, build, randomize

SYDNEY = "The capital of Australia is Sydney."
QUESTION = "What is the capital of Australia?"
Run = Callable[..., Result]


@dataclass(frozen=True)
class Folders:
    """Where the tiny parts are saved."""

    model: Path
    encoder: Path
    gate: Path


@dataclass(frozen=True)
class Parts:
    """The tiny parts, loaded."""

    lm: CausalLM
    encoder: TextEncoder
    gate: ScopeGate


def say(gate: ScopeGate, in_scope: float, same_question: float) -> None:
    """Make the gate give every pair the same logits."""
    last: Any = gate.scorer.head[2]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([in_scope, same_question]))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("parts")
    found = Folders(root / "model", root / "encoder", root / "gate")
    build("llama").save_pretrained(found.model)
    make_tokenizer(bos=False).save_pretrained(found.model)
    config = tf.BertConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=128,
    )
    randomize(tf.BertModel(config)).save_pretrained(found.encoder)
    make_tokenizer(bos=False).save_pretrained(found.encoder)
    gate = ScopeGate(TextEncoder(found.encoder))
    say(gate, 3.0, 3.0)
    gate.save_pretrained(found.gate)
    return found


@pytest.fixture(scope="session")
def loaded(folders: Folders) -> Parts:
    encoder = TextEncoder(folders.encoder)
    lm = load_lm(str(folders.model), dtype="float32")
    assert isinstance(lm, CausalLM)
    return Parts(lm, encoder, ScopeGate.from_pretrained(folders.gate, encoder))


@pytest.fixture
def parts(loaded: Parts) -> Parts:
    say(loaded.gate, 3.0, 3.0)
    return loaded


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line as it is, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("SEPROG_MEMORY", "SEPROG_MODEL"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str, code: int = 0, **options: Any) -> Result:
        result = CliRunner().invoke(app, list(args), prog_name="seprog", **options)
        assert result.exit_code == code, result.output
        if result.exception is not None:
            assert isinstance(result.exception, SystemExit)
        if code not in (0, 1, 130):
            assert result.stderr.splitlines()[-1].startswith("Error: "), result.stderr
        return result

    return run


@pytest.fixture
def run(bare: Run, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line, with the tiny parts instead of what ships."""

    def open_editor(
        memory: str | None,
        model: str | None,
        generator: Path | None,
        gate: Path | None,
        namespace: str = "default",
        device: str = "cpu",
    ) -> Editor:
        store = Memory(memory) if memory is not None else None
        return Editor(parts.lm, parts.gate, memory=store, namespace=namespace)

    monkeypatch.setattr(common, "open_editor", open_editor)
    return bare
