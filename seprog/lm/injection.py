"""The mechanism: prefixes enter a frozen model through its own attention function.

``register`` makes an attention function that can stand in for the model's (``attach`` in the file
beside this one puts it there). Left alone it calls the model's own function with untouched
arguments. Two context managers give it more to do:

- ``inject``: the rows that have a prefix are computed a second time, with the prefix's keys and
  values in front, and the result replaces those rows. All other rows are not touched, so they
  stay bit for bit what the model computes by itself. The prefix never enters the model's cache.
- ``capture``: the keys and values of chosen positions are collected, as the attention sees them
  (after the rotation by position, key/value heads not repeated).

This file knows attention, not text: no tokenizer, no positions, no model names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import cycle, pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from seprog.errors import FingerprintMismatch, InputError, ModelError
from seprog.lm.masks import extend_bias, extend_mask
from seprog.types import PrefixBatch, PrefixSpec

BASES = ("sdpa", "eager")
"""The attention implementations that have a place for a prefix."""

PREFIX = "seprog_"
"""What the registered name puts in front of the base's name; transformers reads the rest."""

Keys = Float[Tensor, "batch kv_heads kv_time head_dim"]
Recorder = Callable[[nn.Module, Tensor, Tensor], None]


class AttentionSites:
    """The attention calls of one run of a model in their order, and their shape.

    Args:
        modules: The module that attends at each site; one that serves several layers (ALBERT)
            is there once for each.
        spec: Heads and width of each.
        biases: Per site, the module that turns distances into a bias there (T5), if there is one.
    """

    def __init__(
        self,
        modules: tuple[nn.Module, ...],
        spec: PrefixSpec,
        biases: tuple[Any, ...] = (),
    ) -> None:
        self.modules, self.spec = modules, spec
        self.biases = biases or (None,) * len(modules)
        self._places: dict[nn.Module, list[int]] = {}
        for i, module in enumerate(modules):
            self._places.setdefault(module, []).append(i)

    def counter(self) -> Callable[[nn.Module], int | None]:
        """Numbers the attention calls of one or more whole runs, one after the other.

        Returns:
            What gives the number of the site for a call of a module, ``None`` if the module
            belongs to another model.
        """
        turns = {module: cycle(places) for module, places in self._places.items()}
        return lambda module: next(turns[module]) if module in turns else None

    def check(self, prefixes: PrefixBatch, batch_size: int) -> None:
        """Refuse prefixes that do not fit the model or the batch.

        Raises:
            FingerprintMismatch: Number of sites, heads or width differ from the model's.
            InputError: The rows are not strictly increasing indices into the batch.
        """
        rows, length = prefixes.mask.shape
        wanted = [(rows, s.kv_heads, length, s.head_dim) for s in self.spec.sites]
        for tensors in (prefixes.keys, prefixes.values):
            shapes = [tuple(x.shape) for x in tensors]
            if shapes != wanted:
                raise FingerprintMismatch(
                    f"The prefix has {len(shapes)} sites of shape {shapes[:1]}",
                    f"{len(wanted)} sites of shape (rows, heads, tokens, width) = {wanted[:1]}",
                    "Make the prefix with the generator of this base model",
                )
        bounds = (-1, *prefixes.rows, batch_size)
        ordered = all(a < b for a, b in pairwise(bounds))
        if not ordered or len(prefixes.rows) != rows or rows == 0:
            raise InputError(
                f"Prefixes are given for rows {prefixes.rows} of a batch of {batch_size}",
                "strictly increasing row numbers inside the batch, one per prefix",
                "Build them with PrefixBatch.stack, one entry per row",
            )


class _Room:
    """What some rows attend to at one site, with room behind it for what comes next.

    Args:
        keys: ``(rows, kv_heads, P + kv_time, head_dim)``, the prefix in front.
        values: The same shape.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.length = keys.shape[2]
        self._tensors = [self._roomy(x) for x in (keys, values)]

    def follows(self, key: Keys, rows: Int[Tensor, " rows"]) -> bool:
        """Whether all but the last position is what was there before, as its end tells."""
        before = key[:, :, -2].index_select(0, rows)
        return torch.equal(self._tensors[0][:, :, self.length - 1], before)

    def add(self, key: Keys, value: Keys, rows: Int[Tensor, " rows"]) -> None:
        """Take in the last position."""
        if self.length == self._tensors[0].shape[2]:
            self._tensors = [self._roomy(x) for x in self._tensors]
        for tensor, x in zip(self._tensors, (key, value), strict=True):
            tensor[:, :, self.length] = x[:, :, -1].index_select(0, rows)
        self.length += 1

    def both(self) -> tuple[Tensor, Tensor]:
        """Keys and values; views."""
        keys, values = (x[:, :, : self.length] for x in self._tensors)
        return keys, values

    @staticmethod
    def _roomy(x: Tensor) -> Tensor:
        rows, heads, length, width = x.shape
        found = x.new_empty(rows, heads, length + max(32, length // 2), width)
        found[:, :, :length] = x
        return found


class _Injection:
    """Prefixes for the rows of a batch; answers for batches that were multiplied, too."""

    def __init__(self, sites: AttentionSites, prefixes: PrefixBatch, batch_size: int) -> None:
        self.sites, self.prefixes, self.batch_size = sites, prefixes, batch_size
        self.everywhere = len(prefixes.rows) == batch_size
        self.site = sites.counter()
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}
        self._repeated: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._times: dict[int, int] = {}
        self._rooms: dict[int, _Room] = {}
        self._mask: tuple[tuple[Any, ...], Tensor | None, Tensor] | None = None

    def factor(self, batch: int) -> int:
        """How many rows of the running batch stand for one declared row (beams, samples)."""
        factor, rest = divmod(batch, self.batch_size)
        if rest or factor == 0:
            raise InputError(
                f"The model runs on {batch} rows while prefixes were declared for "
                f"{self.batch_size}",
                "the same number of rows or a multiple of it",
                "Declare the prefixes for the batch that is passed to the model",
            )
        return factor

    def rows(self, factor: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Row numbers ``(R * factor,)`` in the running batch and mask ``(R * factor, P)``."""
        if factor not in self._rows:
            rows = torch.tensor(self.prefixes.rows, device=device)
            copies = torch.arange(factor, device=device)
            mask = self.prefixes.mask.to(device).repeat_interleave(factor, dim=0)
            self._rows[factor] = ((rows[:, None] * factor + copies).flatten(), mask)
        return self._rows[factor]

    def keys_values(self, site: int, factor: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The prefix at a site, each ``(R * factor, kv_heads, P, head_dim)``."""
        if (site, factor) not in self._repeated:
            pair = (self.prefixes.keys[site], self.prefixes.values[site])
            key, value = (x.to(like) for x in pair)
            if factor > 1:
                key, value = (x.repeat_interleave(factor, dim=0) for x in (key, value))
            self._repeated[site, factor] = key, value
        return self._repeated[site, factor]

    def behind(
        self, site: int, factor: int, key: Keys, value: Keys, one: bool
    ) -> tuple[Tensor, Tensor]:
        """The prefix at a site with the rows' own keys and values behind it.

        While a text is written token by token they are kept, and only what is new is copied.

        Args:
            site: Number of the site.
            factor: Rows of the running batch per declared row.
            key: Of the running batch.
            value: Of the running batch.
            one: Whether one position is asked about.

        Returns:
            Each ``(R * factor, kv_heads, P + kv_time, head_dim)``.
        """
        rows, _ = self.rows(factor, key.device)
        time, before = key.shape[2], self._times.get(site)
        self._times[site] = time
        room = self._rooms.pop(site, None)
        written = one and before == time - 1 and factor == 1 and not torch.is_grad_enabled()
        if written and room is not None and room.follows(key, rows):
            room.add(key, value, rows)
        else:
            own = (
                (key, value) if self.everywhere else (x.index_select(0, rows) for x in (key, value))
            )
            pairs = zip(self.keys_values(site, factor, key), own, strict=True)
            keys, values = (torch.cat(pair, dim=2) for pair in pairs)
            if not written:
                return keys, values
            room = _Room(keys, values)
        self._rooms[site] = room
        return room.both()

    def mask(self, mask: Tensor | None, factor: int, device: torch.device, *how: Any) -> Tensor:
        """The rows' mask with columns for the prefix; sites that share a mask share this, too.

        Args:
            mask: Of the running batch, or ``None``.
            factor: Rows of the running batch per declared row.
            device: Where the model runs.
            *how: What ``extend_mask`` takes behind the two masks.
        """
        given = (factor, device, *how)
        if self._mask is None or self._mask[0] != given or self._mask[1] is not mask:
            rows, prefix_mask = self.rows(factor, device)
            several = mask is not None and mask.shape[0] > 1 and not self.everywhere
            own = mask.index_select(0, rows) if mask is not None and several else mask
            self._mask = given, mask, extend_mask(own, prefix_mask, *how)
        return self._mask[2]


_INJECTION: ContextVar[_Injection | None] = ContextVar("seprog_injection", default=None)
_RECORDER: ContextVar[Recorder | None] = ContextVar("seprog_recorder", default=None)


@contextmanager
def inject(sites: AttentionSites, prefixes: PrefixBatch | None, batch_size: int) -> Iterator[None]:
    """While open, the model behind ``sites`` sees the prefixes.

    Args:
        sites: What ``attach`` returned.
        prefixes: Prefixes for some rows. ``None``: no row has one.
        batch_size: Rows of the batch as the caller counts them. A model that runs on a multiple
            of it (beams, several samples per row) gives each copy its row's prefix.

    Raises:
        FingerprintMismatch: The prefixes do not fit the model.
        InputError: The rows do not fit the batch.
    """
    state = None
    if prefixes is not None:
        sites.check(prefixes, batch_size)
        state = _Injection(sites, prefixes, batch_size)
    token = _INJECTION.set(state)
    try:
        yield
    finally:
        _INJECTION.reset(token)


@contextmanager
def record(recorder: Recorder) -> Iterator[None]:
    """While open, ``recorder(module, key, value)`` is called at every attention call."""
    token = _RECORDER.set(recorder)
    try:
        yield
    finally:
        _RECORDER.reset(token)


class Captured:
    """What ``capture`` collects; complete once the model has run.

    Args:
        sites: What ``attach`` returned.
        keep: ``(batch, time)``, true at the positions to keep.
    """

    def __init__(self, sites: AttentionSites, keep: Bool[Tensor, "batch time"]) -> None:
        self.sites = sites
        longest = int(keep.sum(dim=1).max())
        order = keep.int().argsort(dim=1, stable=True)  # positions to keep come last, in order
        self.index = order[:, keep.shape[1] - longest :]  # (batch, P)
        self.mask = keep.gather(1, self.index)  # (batch, P)
        self.time = keep.shape[1]
        self.found: dict[int, tuple[Tensor, Tensor]] = {}
        self._site = sites.counter()

    def __call__(self, module: nn.Module, key: Keys, value: Keys) -> None:
        """Collect one site."""
        site = self._site(module)
        if site is None:
            return
        if key.shape[2] != self.time:
            raise InputError(
                f"The model attends to {key.shape[2]} positions, {self.time} were marked",
                "a run over the whole text at once",
                "Capture without a key/value cache",
            )
        self.found[site] = (self._pick(key), self._pick(value))

    def _pick(self, x: Tensor) -> Tensor:
        # (batch, kv_heads, time, head_dim) -> (batch, kv_heads, P, head_dim), zero where padded
        index = self.index[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
        picked = x.gather(2, index)
        return picked.masked_fill(~self.mask[:, None, :, None], 0.0)

    def prefixes(self) -> PrefixBatch:
        """The kept positions as prefixes for every row, shorter rows padded on the left."""
        pairs = [self.found[site] for site in range(len(self.sites.modules))]
        return PrefixBatch(
            tuple(range(self.mask.shape[0])),
            tuple(key for key, _ in pairs),
            tuple(value for _, value in pairs),
            self.mask,
        )


@contextmanager
def capture(sites: AttentionSites, keep: Bool[Tensor, "batch time"]) -> Iterator[Captured]:
    """While open, the keys and values of the positions in ``keep`` are collected.

    Gradients flow through what is collected. May be nested with ``inject``; the injected prefix
    itself is not collected.

    Args:
        sites: What ``attach`` returned.
        keep: ``(batch, time)``, true at the positions to keep.
    """
    captured = Captured(sites, keep)
    with record(captured):
        yield captured


# --- the registered attention function ------------------------------------------------------


@cache
def _eager_function(attention_class: type[nn.Module]) -> Callable[..., Any]:
    """The eager attention of the file that the class, or one of its parents, is written in."""
    for cls in attention_class.__mro__:
        function = getattr(sys.modules.get(cls.__module__), "eager_attention_forward", None)
        if function is not None:
            return function
    raise ModelError(
        f"No eager attention function found beside {attention_class.__name__}",
        "a modeling file with eager_attention_forward",
        "Load the model with attn_implementation='sdpa'",
    )


def _make_attention(base_name: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The function that stands in for ``base_name``."""

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        eager = base_name == "eager"
        attention_class: Any = type(module)
        base = _eager_function(attention_class) if eager else AttentionInterface()[base_name]
        recorder, state = _RECORDER.get(), _INJECTION.get()
        if recorder is not None:
            recorder(module, key, value)
        site = None if state is None else state.site(module)
        if state is None or site is None:
            return base(module, query, key, value, attention_mask, **kwargs)
        additive = query.dtype if eager else None
        return _attend_with_prefix(
            base, state, site, module, (query, key, value), attention_mask, kwargs, additive
        )

    attention.__name__ = PREFIX + base_name
    return attention


def register(base_name: str) -> str:
    """Register the function that stands in for ``base_name``, and the base's masks with it.

    Without the second a model would silently run without any mask.

    Returns:
        The name to switch a model to.
    """
    name = PREFIX + base_name
    if name not in AttentionInterface().valid_keys():
        AttentionInterface.register(name, _make_attention(base_name))
    AttentionMaskInterface.register(name, AttentionMaskInterface()[base_name])
    return name


def _attend_with_prefix(
    base: Callable[..., Any],
    state: _Injection,
    site: int,
    module: nn.Module,
    qkv: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None,
    kwargs: dict[str, Any],
    additive: torch.dtype | None,
) -> tuple[Tensor, Tensor | None]:
    """The base's result, with the in-scope rows replaced by what they are with their prefix."""
    query, key, value = qkv
    factor = state.factor(query.shape[0])
    rows, prefix_mask = state.rows(factor, query.device)
    length, kv_time = prefix_mask.shape[1], key.shape[2]
    out, weights = None, None
    keys, values = state.behind(site, factor, key, value, one=query.shape[2] == 1)
    if not state.everywhere:  # otherwise every row would be thrown away
        out, weights = base(module, query, key, value, mask, **kwargs)
        query = query.index_select(0, rows)
    if kwargs.get("position_bias") is not None:
        source = state.sites.biases[site]
        bias = extend_bias(kwargs["position_bias"], rows, source, length, kv_time)
        kwargs = kwargs | {"position_bias": bias}
    window, causal = _window(module, kwargs), _causal(module, kwargs)
    how = (query.shape[2], kv_time, window, causal, additive)
    mask = state.mask(mask, factor, query.device, *how)
    edited, edited_weights = base(module, query, keys, values, mask, **kwargs)
    if out is None:
        return edited, None if edited_weights is None else edited_weights[..., length:]
    return out.index_copy(0, rows, edited.to(out.dtype)), weights


def _window(module: nn.Module, kwargs: dict[str, Any]) -> int | None:
    """How many positions a token sees, itself included; ``None`` if there is no limit."""
    window = kwargs.get("sliding_window", getattr(module, "sliding_window", None))
    return window if isinstance(window, int) else None


def _causal(module: nn.Module, kwargs: dict[str, Any]) -> bool:
    given = kwargs.get("is_causal")
    return bool(getattr(module, "is_causal", True) if given is None else given)
