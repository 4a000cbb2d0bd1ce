"""What the rest of seprog uses of a base model, whatever kind it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from seprog.lm.attach import Positions
from seprog.lm.rowwise import Cancelled, OnEnd, OnPiece, RowOptions, Written
from seprog.lm.tokens import Tokens
from seprog.types import Prefix, PrefixBatch, PrefixSpec


@runtime_checkable
class LanguageModel(Protocol):
    """A frozen language model with two verbs for prefixes: *capture* and inject.

    Injecting happens wherever ``prefixes`` is an argument. ``CausalLM`` documents each member.
    Models that do not write (``generates`` is false) refuse ``generate_ids``, ``generate``,
    ``write``, ``stream`` and ``score``.
    """

    generates: bool

    tokenizer: Any
    model: Any
    tokens: Tokens

    @property
    def spec(self) -> PrefixSpec:
        """What a prefix for this model looks like."""

    @property
    def device(self) -> torch.device:
        """Where inputs go."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""

    @property
    def positions(self) -> Positions:
        """How the model knows where a token stands."""

    @property
    def n_positions(self) -> int | None:
        """Longest text in tokens, or ``None`` if the model sets no limit."""

    @property
    def fingerprint(self) -> str:
        """Says whether two models are the same."""

    def capture(
        self,
        input_ids: Int[Tensor, "batch time"] | None = None,
        inputs_embeds: Float[Tensor, "batch time hidden"] | None = None,
        attention_mask: Shaped[Tensor, "batch time"] | None = None,
        keep: Bool[Tensor, "batch time"] | None = None,
    ) -> PrefixBatch:
        """Keys and values of a text's tokens at every attention site; differentiable."""

    def capture_text(self, texts: Sequence[str], bos: bool = True) -> list[Prefix]:
        """The verbatim prefix of each text."""

    def forward(
        self,
        input_ids: Int[Tensor, "batch time"] | None = None,
        attention_mask: Shaped[Tensor, "batch total_time"] | None = None,
        prefixes: PrefixBatch | None = None,
        *,
        shift: int | Int[Tensor, " rows"] | None = None,
        **kwargs: Any,
    ) -> Float[Tensor, "batch *places classes"]:
        """Logits; differentiable with respect to the prefixes."""

    def reply(
        self,
        texts: Sequence[str],
        prefixes: Sequence[Prefix | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """What the model says to texts: how it goes on with them, or their labels."""

    def generate_ids(
        self,
        input_ids: Int[Tensor, "batch time"],
        attention_mask: Shaped[Tensor, "batch total_time"] | None = None,
        prefixes: PrefixBatch | None = None,
        *,
        shift: int | Int[Tensor, " rows"] | None = None,
        **kwargs: Any,
    ) -> Int[Tensor, "sequences length"]:
        """Prompts and continuations as token ids."""

    def generate(
        self,
        texts: Sequence[str],
        prefixes: Sequence[Prefix | None] | None = None,
        max_new_tokens: int = 32,
        stop: Sequence[str] = (),
        *,
        bos: bool | Sequence[bool] = True,
        **kwargs: Any,
    ) -> list[str]:
        """Continuations of texts."""

    def write(
        self,
        texts: Sequence[str],
        rows: Sequence[RowOptions],
        prefixes: Sequence[Prefix | None] | None = None,
        *,
        bos: bool | Sequence[bool] = True,
        on_piece: OnPiece | None = None,
        cancelled: Cancelled | None = None,
        on_end: OnEnd | None = None,
    ) -> list[Written]:
        """Continuations of unrelated texts, each with its own options and its own end."""

    def stream(
        self,
        text: str,
        prefix: Prefix | None = None,
        max_new_tokens: int = 32,
        stop: Sequence[str] = (),
        *,
        bos: bool = True,
        **kwargs: Any,
    ) -> Iterator[str]:
        """The continuation of one text, piece by piece."""

    def score(
        self,
        texts: Sequence[str],
        continuations: Sequence[str],
        prefixes: Sequence[Prefix | None] | None = None,
        *,
        bos: bool | Sequence[bool] = True,
    ) -> list[float]:
        """Log-probability of each continuation after its text."""
