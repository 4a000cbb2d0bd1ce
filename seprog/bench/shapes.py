"""``seprog bench cost``: what editing costs on a base model of a real shape, whatever it knows.

Time, arithmetic and memory do not depend on what weights know, so they are measured on random ones.
What a method needs trained is trained for a single step, which costs it nothing here either.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from seprog.atlas import GATE, MODEL
from seprog.bench.contestants import CONTESTANTS
from seprog.bench.costs import TRIED, percentiles
from seprog.bench.course import AtlasCourse, series_of
from seprog.bench.measure import first_edits, run
from seprog.bench.metrics import COSTS
from seprog.bench.plan import plan
from seprog.bench.progress import watch
from seprog.bench.results import provenance, save
from seprog.bench.tables import shown
from seprog.bench.workshop import Training, Workshop
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.gate import ScopeGate
from seprog.generator import SelfEncoder, SelfEncoderConfig
from seprog.lm import CausalLM
from seprog.memory import make_edit
from seprog.methods import MendTraining, RecipeTraining, Seprog
from seprog.methods.contract import require_known
from seprog.methods.weights import blocks
from seprog.text_encoder import TextEncoder
from seprog.training.causal import CausalTraining
from seprog.training.gate import GateTraining
from seprog.training.generator import GeneratorTraining

ONE_STEP = Training(
    RecipeTraining(steps=1, batch=2),
    MendTraining(steps=1, batch=1),
    CausalTraining(layers=4, steps=1, rows=2, again=0, bf16=False, compile=False),
    GateTraining(scenarios=1, edits=10, steps=1, groups=2, bf16=False),
)


def random_base(shape: str, device: str = "cpu") -> CausalLM:
    """A causal model of a shape, with random weights and Atlas' tokenizer.

    Args:
        shape: A type of model that transformers knows, in its default shape ("gpt2" has 124 million
            parameters), or a folder or Hub id of a configuration.
        device: Where it runs.

    Raises:
        InputError: If there is no such configuration, or it is not that of a causal model.
    """
    try:
        known = "/" not in shape and not Path(shape).exists()
        config = AutoConfig.for_model(shape) if known else AutoConfig.from_pretrained(shape)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval().to(device)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{shape!r} has no configuration of a causal model",
            "a type that transformers knows, such as gpt2, or a folder with a config.json",
            "Check the name",
        ) from error
    return CausalLM(model, PreTrainedTokenizerFast.from_pretrained(MODEL))


def measure(
    shape: str,
    edits: int,
    methods: Sequence[str],
    work: Path,
    out: Path | None = None,
    progress: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """What edits and queries cost each method.

    Args:
        shape: As for ``random_base``.
        edits: In the memory, for methods with a gate; for the others, whose edits cost the same
            however many there are, ten at most.
        methods: Those behind our gate, or peers; none named: all of them.
        work: Folder for what methods need trained.
        out: Where the result goes, as JSON.
        progress: Whether to show progress bars.
        device: Where it is measured.

    Returns:
        The result, as it is written to ``out``.

    Raises:
        InputError: If the shape or a method is not known.
    """
    known = [name for name, contestant in CONTESTANTS.items() if not contestant.bound]
    require_known(methods, known)
    lm, chosen = random_base(shape, device), tuple(methods) or tuple(known)
    course, folder = AtlasCourse(lm), work / shape.replace("/", "-")
    shop = Workshop(course, folder, ONE_STEP, lambda: _unrefined(lm))
    depth = len(blocks(lm))
    rows: list[dict[str, Any]] = []
    for name in watch(chosen, "methods", progress):
        contestant = CONTESTANTS[name]
        count = edits if contestant.gated else TRIED
        what = series_of(plan(count, 0, per_kind=TRIED))
        method = contestant.make(shop, contestant.settings(depth)[0])
        _, costs = run(method, contestant.at_once, what, course.base_says, progress)
        costs |= first_edits(method, contestant.at_once, what)
        if isinstance(method, Seprog) and isinstance(method.editor.generator, SelfEncoder):
            costs["ms_per_refined_edit"] = _refined(lm)
        rows.append({"method": name, "edits": count, "when": "after_all", "metrics": costs})
    result = {
        "config": {"dataset": "cost", "shape": shape, "methods": list(chosen)},
        **provenance(),
        "parameters": sum(p.numel() for p in lm.model.parameters()),
        "threads": torch.get_num_threads(),
        "results": [
            {**r, "metrics": {k: v for k, v in r["metrics"].items() if k in COSTS}} for r in rows
        ],
    }
    save(result, out, [], None)
    return result


def _unrefined(lm: CausalLM) -> Editor:
    """Our gate, and a generator that does not refine what it makes."""
    generator = SelfEncoder(lm, SelfEncoderConfig(refine=0))
    return Editor(lm, ScopeGate.from_pretrained(GATE, TextEncoder(device=lm.device)), generator)


def _refined(lm: CausalLM) -> dict[str, float]:
    """Milliseconds of a prefix that is refined as long as any is: random weights learn nothing."""
    generator = SelfEncoder(lm, SelfEncoderConfig(refine=GeneratorTraining().refine))
    drawn = plan(TRIED, 0, per_kind=TRIED)
    times = []
    for fact, prompt in drawn.scenario.prompts.items():
        edit = make_edit(prompt=prompt, target=fact.object)
        start = time.perf_counter()
        generator.prefixes([edit])
        times.append(1000 * (time.perf_counter() - start))
    return percentiles(times, mean=True)


def table(result: dict[str, Any]) -> Table:
    """The result as people read it, a row per method."""
    names = [n for n in COSTS if n not in ("perplexity_ratio", "training_seconds")]
    view = Table("method", "edits", title=f"{result['config']['shape']}: what editing costs")
    for name in names:
        view.add_column(name.replace("_", " "), justify="right")
    for row in result["results"]:
        cells = [shown(name, row["metrics"].get(name)) for name in names]
        view.add_row(row["method"], f"{row['edits']:,}", *cells)
    return view
