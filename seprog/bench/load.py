"""``seprog bench load``: a server under load, with its edits and without, turn by turn.

The same server answers the same questions with editing on and off, so that the two differ in
editing alone. Half of the questions are ones that an edit bears on.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from rich.table import Table

from seprog.atlas.scenario import make_scenario
from seprog.atlas.world import load_world
from seprog.bench.progress import watch
from seprog.bench.results import provenance, save
from seprog.errors import InputError

_ASKED = 200
"""Edits that are asked about; their prefixes are made before anything is measured."""


@dataclass(frozen=True)
class Load:
    """How the server is loaded.

    Args:
        edits: In its memory, at least; so many are imported if there are fewer.
        clients: Numbers of clients that ask at the same time.
        seconds: Of each turn.
        turns: With editing, and as many without.
        max_tokens: Longest answer.
        in_scope: Share of the questions that an edit bears on (0 to 1).
        seed: Of edits and questions.
    """

    edits: int = 10_000
    clients: tuple[int, ...] = (1, 8, 32)
    seconds: float = 15.0
    turns: int = 2
    max_tokens: int = 32
    in_scope: float = 0.5
    seed: int = 0


@dataclass
class _Turn:
    """What came of one turn."""

    tokens: int = 0
    took: float = 0.0
    refused: int = 0
    fired: int = 0
    waits: list[float] = field(default_factory=list)


def measure(
    address: str,
    key: str | None,
    namespace: str,
    how: Load,
    out: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Load a server and say how it bore it.

    Args:
        address: Of the server, without ``/v1``.
        key: That may edit; ``None`` where none is asked for.
        namespace: Whose edits are asked about; filled up to ``how.edits``.
        how: How much.
        out: Where the result goes, as JSON.
        progress: Whether to show progress bars.

    Returns:
        Per number of clients, with and without editing: tokens and answers per second, and seconds
        until an answer (50th and 99th percentile).

    Raises:
        InputError: The server cannot be asked.
    """
    headers = {"X-Seprog-Namespace": namespace}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    limits = httpx2.Limits(max_connections=None)
    with httpx2.Client(base_url=address, headers=headers, timeout=600) as client:
        try:
            model = _good(client.get("/v1/models")).json()["data"][0]["id"]
        except httpx2.TransportError as error:
            raise InputError(
                f"{address} does not answer ({error})", "a server", "Start one: seprog serve"
            ) from error
        inside, outside = _fill(client, how)
        _warm(client, model, inside)

    async def turn(clients: int, edits: bool) -> _Turn:
        found = _Turn()
        options: dict[str, Any] = {
            "base_url": address,
            "headers": headers,
            "timeout": 600,
            "limits": limits,
        }
        async with httpx2.AsyncClient(**options) as client:
            start = time.perf_counter()
            end = start + how.seconds
            workers = [
                _ask(client, found, _body(model, how, edits), inside, outside, how, i, end)
                for i in range(clients)
            ]
            await asyncio.gather(*workers)
            found.took = time.perf_counter() - start
        return found

    plan = [(c, e) for c in how.clients for _ in range(how.turns) for e in (False, True)]
    turns: dict[tuple[int, bool], list[_Turn]] = {}
    for clients, edits in watch(plan, "load", progress):
        turns.setdefault((clients, edits), []).append(asyncio.run(turn(clients, edits)))
    rows = [_row(clients, edits, found) for (clients, edits), found in turns.items()]
    for row in rows:
        bare = next(r for r in rows if r["clients"] == row["clients"] and not r["edits"])
        row["ratio"] = row["tokens_per_second"] / bare["tokens_per_second"]
    result = {
        "config": {"dataset": "load", "model": model, **asdict(how)},
        **provenance(),
        "results": rows,
    }
    save(result, out, (), None)
    return result


def wait_until_ready(address: str, seconds: float = 60) -> None:
    """Wait for a server that was just started.

    Raises:
        InputError: It does not come up in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{address}/readyz").status_code == 200:
                return
        time.sleep(0.1)
    raise InputError(f"{address} is not ready", f"a server within {seconds:g} s", "See its log")


def _good(response: httpx2.Response) -> httpx2.Response:
    if response.status_code >= 400:
        raise InputError(
            f"The server said {response.status_code} ({response.text[:200]})",
            "an answer",
            "Check address and key",
        )
    return response


def _fill(client: httpx2.Client, how: Load) -> tuple[list[str], list[str]]:
    """Bring the memory up to size; questions in and out of scope of its edits."""
    rng = random.Random(how.seed)
    scenario = make_scenario(load_world(), "test", how.edits, rng, chained=0.0)
    facts = list(scenario.facts.values())
    page = _good(client.get("/v1/edits", params={"offset": how.edits - 1, "limit": 1})).json()
    if not page["data"]:
        lines = (json.dumps({"statement": scenario.statement(fact)}) for fact in facts)
        _good(client.post("/v1/edits/import", content="\n".join(lines)))
    asked = rng.sample(facts, min(_ASKED, len(facts)))
    inside = [p.prompt for p in scenario.in_scope(rng, asked) if p.kind == "rewrite"]
    outside = [p.prompt for p in scenario.far(rng, _ASKED)]
    return inside, outside


def _warm(client: httpx2.Client, model: str, inside: Sequence[str]) -> None:
    for prompt in inside:
        _good(
            client.post("/v1/completions", json={"model": model, "prompt": prompt, "max_tokens": 1})
        )


def _body(model: str, how: Load, edits: bool) -> dict[str, Any]:
    return {"model": model, "max_tokens": how.max_tokens, "seprog": {"enabled": edits}}


async def _ask(
    client: httpx2.AsyncClient,
    found: _Turn,
    body: dict[str, Any],
    inside: Sequence[str],
    outside: Sequence[str],
    how: Load,
    number: int,
    end: float,
) -> None:
    rng = random.Random(f"{how.seed} {number}")
    while (start := time.perf_counter()) < end:
        prompt = rng.choice(inside if rng.random() < how.in_scope else outside)
        response = await client.post("/v1/completions", json=body | {"prompt": prompt})
        if response.status_code == 429:
            found.refused += 1
            await asyncio.sleep(float(response.headers.get("Retry-After", 1)))
            continue
        said = _good(response).json()
        found.waits.append(time.perf_counter() - start)
        found.tokens += said["usage"]["completion_tokens"]
        found.fired += bool(said["seprog"]["fired"])


def _row(clients: int, edits: bool, turns: Sequence[_Turn]) -> dict[str, Any]:
    waits = [w for turn in turns for w in turn.waits]
    took = sum(turn.took for turn in turns)
    return {
        "clients": clients,
        "edits": edits,
        "tokens_per_second": sum(turn.tokens for turn in turns) / took,
        "answers_per_second": len(waits) / took,
        "p50": float(np.quantile(waits, 0.5)),
        "p99": float(np.quantile(waits, 0.99)),
        "fired": sum(turn.fired for turn in turns) / len(waits),
        "refused": sum(turn.refused for turn in turns),
        "n": len(waits),
    }


def table(result: dict[str, Any]) -> Table:
    """The result as people read it."""
    config = result["config"]
    title = f"{config['model']} with {config['edits']:,} edits, answers of {config['max_tokens']}"
    view = Table(title=f"{title} tokens at most")
    for name in ("clients", "editing", "tokens/s", "of base", "answers/s", "p50 ms", "p99 ms"):
        view.add_column(name, justify="right")
    for row in result["results"]:
        view.add_row(
            str(row["clients"]),
            "on" if row["edits"] else "off",
            f"{row['tokens_per_second']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['answers_per_second']:.1f}",
            f"{1000 * row['p50']:.0f}",
            f"{1000 * row['p99']:.0f}",
        )
    return view
