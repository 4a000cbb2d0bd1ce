"""A server under mixed traffic for long: ``python benchmarks/soak.py --minutes 30``.

Starts a server on the shipped model with a memory of its own. Each client has a namespace, writes
edits, takes them back and asks; each answer is checked against what was in force when it asked:
the edit's answer and its id while one is, the unedited model's answer while none is. In between
clients hang up in the middle of an answer and send bodies that are malformed. At the end: answers
that were wrong, statuses that were not expected, and how much memory the server took over time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil

from seprog.atlas.scenario import make_scenario
from seprog.atlas.world import load_world
from seprog.bench.load import wait_until_ready
from seprog.bench.results import provenance

MALFORMED = (b"{", b"[]", b'{"model": "atlas"}', b"\xff\xfe", b'{"model": "atlas", "prompt": 7}')


@dataclass
class Report:
    """What happened."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[dict[str, Any]] = field(default_factory=list)
    checked: int = 0
    rss: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """An edit that holds: its prompt, its answer, and the unedited model's."""

    row: dict[str, str]
    answer: str
    before: str


async def say(client: httpx2.AsyncClient, prompt: str, space: str, **fields: Any) -> Any:
    """A completion."""
    body = {"model": "atlas", "prompt": prompt, "max_tokens": 12, **fields}
    return await client.post("/v1/completions", json=body, headers={"X-Seprog-Namespace": space})


async def cases(client: httpx2.AsyncClient, count: int) -> list[Case]:
    """Edits whose answers the model gives once they are written (some few it does not)."""
    rng = random.Random(0)
    scenario = make_scenario(load_world(), "test", count, rng, chained=0.0)
    found = []
    for number, probe in enumerate(scenario.in_scope(rng, list(scenario.facts.values()))):
        if probe.kind != "rewrite":
            continue
        row = {"prompt": probe.prompt, "target": f"{probe.answer}."}
        space = {"X-Seprog-Namespace": f"try-{number}"}
        before = (await say(client, probe.prompt, space["X-Seprog-Namespace"])).json()
        made = await client.post("/v1/edits", json=row, headers=space)
        if made.status_code != 201:
            continue
        after = (await say(client, probe.prompt, space["X-Seprog-Namespace"])).json()
        text = after["choices"][0]["text"]
        if text.strip().rstrip(".") == probe.answer and text != before["choices"][0]["text"]:
            found.append(Case(row, text, before["choices"][0]["text"]))
    return found


async def live(
    number: int, client: httpx2.AsyncClient, known: list[Case], report: Report, end: float
) -> None:
    """One client, until the end."""
    rng, space = random.Random(number), f"soak-{number}"
    headers = {"X-Seprog-Namespace": space}
    in_force: dict[int, str] = {}
    while time.monotonic() < end:
        await asyncio.sleep(rng.expovariate(3.0))
        choice = rng.random()
        which = rng.randrange(len(known))
        case = known[which]
        if choice < 0.12 and which not in in_force:
            made = await client.post("/v1/edits", json=case.row, headers=headers)
            report.statuses[f"edit {made.status_code}"] += 1
            if made.status_code == 201:
                gone = made.json()["supersedes"]
                in_force = {w: i for w, i in in_force.items() if i != gone}
                in_force[which] = made.json()["id"]
        elif choice < 0.22 and in_force:
            which = rng.choice(list(in_force))
            gone = await client.delete(f"/v1/edits/{in_force.pop(which)}", headers=headers)
            report.statuses[f"forget {gone.status_code}"] += 1
        elif choice < 0.28:
            content = rng.choice(MALFORMED)
            bad = await client.post("/v1/completions", content=content, headers=headers)
            report.statuses[f"malformed {bad.status_code}"] += 1
        elif choice < 0.36:
            await hang_up(client, case, headers, report)
        else:
            if in_force and rng.random() < 0.5:
                which = rng.choice(list(in_force))
                case = known[which]
            await check(client, case, in_force.get(which), space, report)


async def hang_up(
    client: httpx2.AsyncClient, case: Case, headers: dict[str, str], report: Report
) -> None:
    """Ask for a long answer and leave after its first piece."""
    body = {"model": "atlas", "prompt": case.row["prompt"], "max_tokens": 400, "temperature": 2}
    stream = client.stream(
        "POST", "/v1/completions", json={**body, "stream": True}, headers=headers
    )
    async with stream as response:
        async for _ in response.aiter_lines():
            break
    report.statuses[f"hung up {response.status_code}"] += 1


async def check(
    client: httpx2.AsyncClient, case: Case, id_: str | None, space: str, report: Report
) -> None:
    """Ask, and compare with what is in force."""
    answer = await say(client, case.row["prompt"], space)
    report.statuses[f"ask {answer.status_code}"] += 1
    if answer.status_code != 200:
        return
    said = answer.json()
    fired = [f["id"] for f in said["seprog"]["fired"]]
    wanted = case.answer if id_ else case.before
    text = said["choices"][0]["text"]
    report.checked += 1
    if (id_ is not None and id_ not in fired) or (text != wanted and fired in ([id_], [])):
        report.wrong.append(
            {"prompt": case.row["prompt"], "in_force": id_, "fired": fired, "said": text}
        )


async def soak(address: str, pid: int, minutes: float, clients: int) -> Report:
    """All clients, and a look at the server's memory every few seconds."""
    report, process = Report(), psutil.Process(pid)
    async with httpx2.AsyncClient(base_url=address, timeout=120) as client:
        known = await cases(client, 120)
        start = time.monotonic()
        end = start + 60 * minutes

        async def watch() -> None:
            while time.monotonic() < end:
                report.rss.append((time.monotonic() - start, process.memory_info().rss))
                await asyncio.sleep(5)

        await asyncio.gather(
            watch(), *(live(i, client, known, report, end) for i in range(clients))
        )
    return report


def main() -> None:
    """Start a server, soak it, print and perhaps write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        memory = str(Path(folder) / "edits.db")
        command = [sys.executable, "-m", "seprog", "serve", "--no-auth", "--memory", memory]
        with (Path(folder) / "log").open("wb") as log:
            server = subprocess.Popen([*command, "--port", str(port)], stderr=log)
        try:
            wait_until_ready(address)
            report = asyncio.run(soak(address, server.pid, told.minutes, told.clients))
        finally:
            server.terminate()
            server.wait()
    found = _summary(report, told.minutes, told.clients)
    text = json.dumps(found, indent=1)
    sys.stdout.write(text + "\n")
    if told.json:
        told.json.write_text(text + "\n")
    sys.exit(bool(report.wrong) or any(" 5" in status for status in report.statuses))


def _summary(report: Report, minutes: float, clients: int) -> dict[str, Any]:
    third = len(report.rss) // 3
    early, late = (
        sum(size for _, size in part) / len(part) / 2**20
        for part in (report.rss[third : 2 * third], report.rss[2 * third :])
    )
    by_minute = {int(when // 60): size / 2**20 for when, size in report.rss}
    return {
        "config": {"dataset": "soak", "minutes": minutes, "clients": clients},
        **provenance(),
        "statuses": dict(sorted(report.statuses.items())),
        "answers_checked": report.checked,
        "answers_wrong": report.wrong,
        "rss_mib": {
            "second_third": early,
            "last_third": late,
            "growth": late / early - 1,
            "by_minute": list(by_minute.values()),
        },
    }


if __name__ == "__main__":
    main()
