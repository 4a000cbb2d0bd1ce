"""Fixtures for all tests: one thread, tokenizers built by hand, and tiny random models.

seprog is imported inside functions only: this file is read before the shape checker is installed.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import tests.typecheck  # noqa: F401 - pyproject.toml names it, somebody must import it
from tests.lm.families import randomize

if TYPE_CHECKING:
    from seprog.editor import Editor
    from seprog.gate import ScopeGate
    from seprog.lm import CausalLM
    from seprog.text_encoder import TextEncoder

torch.set_num_threads(1)
# machines differ in speed; a slow one is no failure
settings.register_profile("seprog", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("seprog")

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
"""What training is tried on; a GPU only where there is one."""
SPECIAL = ("<pad>", "<s>", "</s>")


def make_tokenizer(bos: bool) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: one token per byte, 259 in all.

    Args:
        bos: Whether it puts ``<s>`` in front of every text.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *letters])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(params=[False, True], ids=["no-bos", "bos"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """A tokenizer without and one with a BOS."""
    return make_tokenizer(request.param)


# --- base model -------------------------------------------------------------------------------


def make_model(seed: int = 0) -> LlamaForCausalLM:
    """A random Llama over bytes, with room for 512 of them."""
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return randomize(LlamaForCausalLM(config), seed)


def make_lm(seed: int = 0, bos: bool = True) -> CausalLM:
    """A random base model over bytes."""
    from seprog.lm import CausalLM

    return CausalLM(make_model(seed), make_tokenizer(bos))


@pytest.fixture
def tiny_lm() -> CausalLM:
    """A fresh random base model."""
    return make_lm()


# --- sentence encoder and gate ----------------------------------------------------------------

WORDS = """
the of is in a what which who does capital language home country population painter author king
""".split()


def make_wordpiece() -> PreTrainedTokenizerFast:
    """WordPiece over letters and a few whole words."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters), *WORDS]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    inner = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT on disk."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = make_wordpiece()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=128,
    )
    tokenizer.save_pretrained(folder)
    randomize(BertModel(config), seed=1).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_encoder(encoder_folder: Path) -> TextEncoder:
    """A fresh random sentence encoder; read with its whole length of 128 tokens."""
    from seprog.text_encoder import TextEncoder

    return TextEncoder(encoder_folder)


def make_gate(encoder: TextEncoder, seed: int = 0, **config: Any) -> ScopeGate:
    """A gate whose every weight is random, so that its decisions are arbitrary but fixed."""
    from seprog.gate import GateConfig, ScopeGate

    torch.manual_seed(seed)
    gate = ScopeGate(encoder, GateConfig(**{"rank": 2} | config))
    with torch.no_grad():
        for up in gate.scorer.lora.up.values():
            up.copy_(torch.randn(up.shape) * 0.5)
        for layer in (gate.retriever.query, gate.retriever.edit):
            layer.weight.add_(torch.randn(layer.weight.shape) * 0.05)
        texts = [f"{a} {b}" for a in WORDS[:5] for b in WORDS[5:10]]
        logits, last = gate.scorer(texts, texts[::-1]), gate.scorer.head[-1]
        last.weight.mul_(2 / logits.std(0)[:, None])
        last.bias.sub_(logits.mean(0)).mul_(2 / logits.std(0))
    return gate


@pytest.fixture
def tiny_gate(tiny_encoder: TextEncoder) -> ScopeGate:
    """A random gate."""
    return make_gate(tiny_encoder)


def topic(statement: str) -> set[str]:
    """The words before " is " that say what a statement is about."""
    return set(re.findall(r"\w+", statement.lower().split(" is ")[0])) - {"the", "of"}


def words_rule(queries: Sequence[str], edits: Sequence[str], batch: int = 32) -> torch.Tensor:
    """In place of the scorer: an edit is in scope if the text names all that it is about."""
    rows = []
    for query, edit in zip(queries, edits, strict=True):
        said = set(re.findall(r"\w+", query.lower()))
        scope = 0.9 if topic(edit) <= said else 0.1
        rows.append([scope, 0.9 if topic(edit) == topic(query) else 0.1])
    return torch.tensor(rows).reshape(-1, 2)


@pytest.fixture
def words_gate(tiny_gate: ScopeGate, monkeypatch: pytest.MonkeyPatch) -> ScopeGate:
    """A gate that decides by ``words_rule``."""
    monkeypatch.setattr(tiny_gate.scorer, "probabilities", words_rule)
    return tiny_gate


# --- editor -----------------------------------------------------------------------------------


@pytest.fixture
def make_editor(words_gate: ScopeGate, tmp_path: Path) -> Iterator[Callable[..., Editor]]:
    """Editors on ``tmp_path / "edits.db"``, all with the same weights, closed in the end."""
    from seprog.editor import Editor
    from seprog.memory import Memory

    opened: list[Memory] = []

    def make(lm: CausalLM | None = None, read_only: bool = False, **options: Any) -> Editor:
        memory = Memory(tmp_path / "edits.db", read_only=read_only)
        opened.append(memory)
        return Editor(lm or make_lm(), words_gate, memory=memory, **options)

    yield make
    for memory in opened:
        memory.close()


@pytest.fixture
def tiny_editor(make_editor: Callable[..., Editor]) -> Editor:
    """A verbatim editor on a random base model, with a gate that goes by words."""
    return make_editor()
