"""Who is measured: how each method is made, fed and tuned."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from seprog.bench.workshop import Workshop
from seprog.errors import InputError
from seprog.methods import (
    FT,
    FTL,
    GRACE,
    MEMIT,
    MEND,
    RECIPE,
    ROME,
    SERAC,
    AlphaEdit,
    EditMethod,
    FineTuningConfig,
    GraceConfig,
    InContextOracle,
    InContextRetrieved,
    LocatingConfig,
    LoRA,
    Nothing,
    ReaderOracle,
    Seprog,
    SeprogOracle,
    Verbatim,
)

BUDGET = 12
"""Settings that are tried for each method, at most."""
CONTEXTS = 4
"""Texts of the base model's own that ROME, MEMIT and AlphaEdit look for a state behind, too."""
Setting = Mapping[str, Any]


@dataclass(frozen=True)
class Contestant:
    """How a method is made, fed and tuned.

    Args:
        method: What is made.
        make: Given a workshop and a setting.
        at_once: Edits at a time; 0 means all of them.
        search: Per name in a setting, the values to try.
        parts: What the workshop trains for it.
        gated: Whether it stands behind our gate, and takes what the workshop's editor is made of.
        bound: Whether it is told which edits are right, and so shows what could be reached.
        twin: Whether it needs the base model's twin that reads, which not every data set brings.
    """

    method: type[EditMethod]
    make: Callable[[Workshop, Setting], EditMethod]
    at_once: int
    search: Mapping[str, Sequence[Any]]
    parts: tuple[str, ...] = ()
    gated: bool = False
    bound: bool = False
    twin: bool = False

    def settings(self, depth: int) -> list[dict[str, Any]]:
        """Every combination, drawn at random where there are more than the budget.

        Args:
            depth: Layers of the base model; what names a layer that it lacks is left out.

        Raises:
            InputError: If nothing is left.
        """
        names = list(self.search)
        whole = [dict(zip(names, v, strict=True)) for v in product(*self.search.values())]
        whole = [s for s in whole if _deepest(s) <= depth]
        if not whole:
            raise InputError(
                f"A base model of {depth} layers came",
                "one with the layers that the method is tried at",
                "Choose a deeper one, or another method",
            )
        return random.Random(0).sample(whole, min(BUDGET, len(whole)))


def _deepest(setting: Setting) -> int:
    """Layers that a model must have for a setting, whose layers count from the last."""
    layers = (setting.get("layer", 0), *setting.get("layers", ()))
    return max(-layer for layer in layers)


def _of(kind: type, setting: Setting) -> Any:
    """A configuration with those parts of a setting that it has."""
    return kind(**{f.name: setting[f.name] for f in fields(kind) if f.name in setting})


def _located(
    method: type[ROME] | type[MEMIT],
) -> Callable[[Workshop, Setting], EditMethod]:
    return lambda w, s: method(w.causal, w.texts, w.texts[:CONTEXTS], _of(LocatingConfig, s))


_LAYERS = [(n - 2, n - 1, n) for n in (-4, -5, -6, -7)]
CONTESTANTS = {
    "none": Contestant(Nothing, lambda w, s: Nothing(w.lm), 1, {}),
    "reader_oracle": Contestant(
        ReaderOracle,
        lambda w, s: ReaderOracle(w.lm, w.course.reader),
        1,
        {},
        bound=True,
        twin=True,
    ),
    "in_context_oracle": Contestant(
        InContextOracle, lambda w, s: InContextOracle(w.lm), 1, {}, bound=True
    ),
    "in_context_retrieved": Contestant(
        InContextRetrieved, lambda w, s: InContextRetrieved(w.editor), 1, {}, gated=True
    ),
    "verbatim": Contestant(Verbatim, lambda w, s: Verbatim(w.editor), 1, {}, gated=True),
    "seprog": Contestant(Seprog, lambda w, s: Seprog(w.editor), 1, {}, gated=True),
    "seprog_oracle": Contestant(
        SeprogOracle, lambda w, s: SeprogOracle(w.editor), 1, {}, gated=True, bound=True
    ),
    "ft": Contestant(
        FT,
        lambda w, s: FT(w.lm, _of(FineTuningConfig, s)),
        1,
        {"lr": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3), "steps": (5, 15, 40)},
    ),
    "ft_l": Contestant(
        FTL,
        lambda w, s: FTL(w.lm, s["layer"], s["bound"], _of(FineTuningConfig, s)),
        1,
        {"layer": (-1, -3, -6), "bound": (1e-2, 3e-2, 1e-1, 3e-1), "lr": (5e-3,), "steps": (40,)},
    ),
    "lora": Contestant(
        LoRA,
        lambda w, s: LoRA(w.lm, s["rank"], _of(FineTuningConfig, s)),
        1,
        {"rank": (4, 16), "lr": (3e-4, 1e-3, 3e-3, 1e-2), "steps": (15, 40)},
    ),
    "rome": Contestant(
        ROME,
        _located(ROME),
        1,
        {"layers": _LAYERS, "decay": (0.0, 0.5), "largest": (2.0, 4.0, 8.0)},
    ),
    "memit": Contestant(
        MEMIT,
        _located(MEMIT),
        0,
        {"layers": _LAYERS, "prior": (0.15, 1.5, 15.0), "largest": (0.75, 2.0, 4.0)},
    ),
    "alphaedit": Contestant(
        AlphaEdit,
        _located(AlphaEdit),
        100,
        {"layers": _LAYERS, "null": (2e-2, 2e-1), "ridge": (1e-2, 0.1, 1.0, 10.0)},
    ),
    "mend": Contestant(
        MEND,
        lambda w, s: MEND.load(w.lm, w.mend(), s["strength"]),
        1,
        {"strength": (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)},
        ("mend",),
    ),
    "grace": Contestant(
        GRACE,
        lambda w, s: GRACE(w.lm, _of(GraceConfig, s)),
        1,
        {"layer": (-2, -4, -6), "radius": (5.0, 20.0, 80.0, 320.0)},
    ),
    "serac": Contestant(
        SERAC,
        lambda w, s: SERAC(w.lm, w.scope_classifier(), w.counterfactual(), s["threshold"]),
        1,
        {"threshold": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)},
        ("scope", "counterfactual"),
    ),
    "recipe": Contestant(
        RECIPE,
        lambda w, s: RECIPE.load(w.causal, w.encoder, w.recipe(), s["margin"]),
        1,
        {"margin": (-0.3, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)},
        ("recipe",),
    ),
}
"""By name; every setting that is not searched for is the paper's or the method's default."""
PEERS = tuple(name for name, c in CONTESTANTS.items() if not c.gated and not c.bound)
"""Those that need nothing of ours."""
