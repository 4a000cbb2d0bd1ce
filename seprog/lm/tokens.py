"""Text to token ids and back, and stopping a generation at a piece of text.

The tokenizer is used as it is and never changed: its padding side and padding token do not
matter, rows are padded here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from seprog.errors import InputError


class Tokens:
    """Encodes, pads and decodes.

    Args:
        tokenizer: The base model's tokenizer.
        whole: Whether texts are whole: they get the special tokens that the tokenizer puts
            behind them too, and are padded on the right. Else more text follows, and they are
            padded on the left.

    ``leading`` holds the special tokens that the tokenizer normally puts in front of a text (a
    BOS, or nothing), ``trailing`` those behind it (nothing unless texts are whole).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, whole: bool = False) -> None:
        self.tokenizer, self.whole = tokenizer, whole
        full, bare = (list(tokenizer("a", add_special_tokens=s).input_ids) for s in (True, False))
        starts = (i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        start = next(starts, 0)
        self.leading: list[int] = full[:start]
        self.trailing: list[int] = full[start + len(bare) :] if whole else []
        pad = tokenizer.pad_token_id
        pad = tokenizer.eos_token_id if pad is None else pad
        self.pad_id: int = 0 if pad is None else pad

    def encode(self, texts: Sequence[str], bos: bool | Sequence[bool] = True) -> list[list[int]]:
        """Token ids of each text.

        Args:
            texts: Any number of texts.
            bos: Whether a text gets the ``leading`` tokens; for all, or one per text. The
                ``trailing`` ones it gets in any case.

        Raises:
            InputError: There is no text, or a text has no tokens.
        """
        wanted = [bos] * len(texts) if isinstance(bos, bool) else list(bos)
        if isinstance(texts, str) or not texts or len(wanted) != len(texts):
            raise InputError(
                f"{texts!r} came with {len(wanted)} bos flags",
                "a list of at least one text, and one flag or one per text",
            )
        rows = []
        for text, with_bos in zip(texts, wanted, strict=True):
            ids = list(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
            rows.append([*(self.leading if with_bos else []), *ids, *self.trailing])
            if not rows[-1]:
                raise InputError(f"The text {text!r} has no tokens", "some text")
        return rows

    def width(self, rows: Sequence[Sequence[int]], bos: bool | Sequence[bool]) -> int:
        """Length of the longest row; where some have the ``leading`` tokens, as if all had."""
        if isinstance(bos, bool) or not any(bos):
            return max(map(len, rows))
        return max(len(r) + len(self.leading) * (not b) for r, b in zip(rows, bos, strict=True))

    def batch(
        self, texts: Sequence[str], bos: bool | Sequence[bool], device: torch.device
    ) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
        """Texts as one tensor, and its mask; where some have leading tokens, as wide as if all had.

        So a text's batch has the same shape, and rounds the same, whether an edit bears on another
        text in it or not.
        """
        rows = self.encode(texts, bos)
        return self.pad(rows, device, self.width(rows, bos))

    def pad(
        self, rows: Sequence[Sequence[int]], device: torch.device, least: int = 0
    ) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
        """Rows as one tensor, padded on one side, and its mask (1 where a token is real).

        Args:
            rows: Token ids.
            device: Where the tensors are made.
            least: How wide they are at least.
        """
        time = max(least, *(len(row) for row in rows))

        def padded(row: Sequence[int], filler: int) -> list[int]:
            gap = [filler] * (time - len(row))
            return [*row, *gap] if self.whole else [*gap, *row]

        ids = [padded(row, self.pad_id) for row in rows]
        mask = [padded([1] * len(row), 0) for row in rows]
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def cut(text: str, stop: Sequence[str]) -> str:
    """``text`` up to the first of the ``stop`` texts in it."""
    ends = [end for s in stop if s and (end := text.find(s)) >= 0]
    return text[: min(ends)] if ends else text


def check_spelling(tokenizer: PreTrainedTokenizerBase, text: str, again: bool) -> None:
    """Refuse a text that a tokenizer cannot represent.

    Args:
        tokenizer: Of the model that is to read the text.
        text: What it is to read.
        again: Whether it has to be able to say it again, letter by letter.

    Raises:
        InputError: It cannot.
    """
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    back = str(tokenizer.decode(ids)) if again else text
    unknown = tokenizer.unk_token_id
    if (unknown is not None and unknown in ids) or _bare(back) != _bare(text):
        lost = sorted(set(_bare(text)) - set(_bare(back)))
        raise InputError(
            f"The model's tokenizer cannot represent {text!r}"
            + (f" (it loses {' '.join(lost)})" if lost else ""),
            "text that survives tokenising",
            "Write the edit in characters that the model knows",
        )


def _bare(text: str) -> str:
    """Without what a tokenizer may leave out on purpose: spaces, case and accents."""
    letters = unicodedata.normalize("NFKD", "".join(text.split()).casefold())
    return "".join(c for c in letters if not unicodedata.combining(c))


class StopAtText(StoppingCriteria):
    """Ends a row as soon as what it generated holds one of the ``stop`` texts."""

    def __init__(self, tokens: Tokens, start: int, stop: Sequence[str]) -> None:
        self.tokens, self.start, self.stop = tokens, start, stop

    def __call__(
        self, input_ids: Int[Tensor, "batch time"], scores: Any, **kwargs: Any
    ) -> Bool[Tensor, " batch"]:
        """Which rows are done."""
        texts = [self.tokens.decode(row) for row in input_ids[:, self.start :].tolist()]
        done = [any(s and s in text for s in self.stop) for text in texts]
        return torch.tensor(done, device=input_ids.device)


class Pieces:
    """Text of tokens as they come, in pieces that never have to be taken back.

    The pieces joined are the whole text, cut at the first of the ``stop`` texts: a piece is held
    back while it may still change (half a character, the start of a stop text).
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = decode, stop
        self.ids: list[int] = []
        self.sent = ""

    def add(self, ids: Sequence[int]) -> str:
        """What can be shown now that these tokens have come; empty if nothing can."""
        self.ids.extend(ids)
        text = self._decode(self.ids)
        if text.endswith("\ufffd"):  # half a character
            return ""
        text = cut(text, self._stop)
        starts = (s[:n] for s in self._stop for n in range(len(s)))
        held = max((len(start) for start in starts if text.endswith(start)), default=0)
        return self._fresh(text[: len(text) - held])

    def end(self) -> str:
        """What was held back."""
        return self._fresh(cut(self._decode(self.ids), self._stop))

    def _fresh(self, text: str) -> str:
        if not text.startswith(self.sent):
            return ""
        piece = text[len(self.sent) :]
        self.sent = text
        return piece


class TextStream(BaseStreamer, StoppingCriteria):
    """Text pieces of one generation while it runs in another thread.

    The pieces joined are the text that the generation returns. As a stopping criterion it ends
    the generation once nobody reads any more.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str]) -> None:
        self._pieces = Pieces(decode, stop)
        self._started = False  # the prompt comes first
        self._queue: SimpleQueue[str | BaseException | None] = SimpleQueue()
        self.cancelled = False

    def put(self, value: Tensor) -> None:
        """Take the prompt, then one new token at a time."""
        if self._started:
            self._send(self._pieces.add(value.flatten().tolist()))
        self._started = True

    def end(self) -> None:
        """Send what was held back."""
        self._send(self._pieces.end())
        self._queue.put(None)

    def fail(self, error: BaseException) -> None:
        """Raise ``error`` in the reading thread."""
        self._queue.put(error)

    def __call__(
        self, input_ids: Int[Tensor, "batch time"], scores: Any, **kwargs: Any
    ) -> Bool[Tensor, " batch"]:
        """All rows are done once the reader has gone away."""
        return torch.full(input_ids.shape[:1], self.cancelled, device=input_ids.device)

    def __iter__(self) -> Iterator[str]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _send(self, text: str) -> None:
        if text:
            self._queue.put(text)
