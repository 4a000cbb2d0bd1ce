"""``seprog doctor``: is everything here that seprog needs, and does a base model suit it?"""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Annotated

import typer

from seprog.cli import common, options
from seprog.cli.output import clean, console, example, print_json
from seprog.errors import SeprogError

if TYPE_CHECKING:
    import torch

EXAMPLE = example("seprog doctor", "seprog doctor ./my-model --json")


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Args:
        name: What.
        ok: Whether it is right.
        detail: What was found.
        advice: What to do if it is not right.
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="A base model to try: a folder or a Hub id."),
    ] = None,
    device: options.Device = "cpu",
    json: options.AsJson = False,
) -> None:
    """Check the installation and, if one is named, whether a base model can be edited."""
    with common.waiting("Looking"):
        checks = [check() for check in CHECKS]
        if model is not None:
            from seprog.cli.doctor_model import model_checks

            checks += model_checks(model, device)
    ok = all(check.ok for check in checks)
    if json:
        print_json({"ok": ok, "checks": [asdict(check) for check in checks]})
    else:
        _print(checks)
    if not ok:
        raise typer.Exit(1)


def _print(checks: list[Check]) -> None:
    out = console()
    for check in checks:
        mark, style = ("✓", "green") if check.ok else ("✗", "red")
        out.print(f"{mark} {check.name}: {clean(check.detail)}", style=style, soft_wrap=True)
        if not check.ok:
            out.print(f"    → {clean(check.advice)}", soft_wrap=True)


def failed(name: str, error: SeprogError) -> Check:
    """A check that ended in one of seprog's errors."""
    expected = f" (expected {error.expected})" if error.expected else ""
    return Check(name, False, error.came + expected, error.advice)


def packages() -> Check:
    """Python and the packages that seprog depends on."""
    from packaging.requirements import Requirement

    try:
        needed = [Requirement(line) for line in requires("seprog") or () if "extra ==" not in line]
    except PackageNotFoundError:
        return Check("packages", False, "seprog is not installed", "Run: pip install seprog")
    found, wrong = [f"python {platform.python_version()}"], []
    for package in needed:
        try:
            installed = version(package.name)
        except PackageNotFoundError:
            wrong.append(f"'{package}'")
            continue
        if package.name in ("torch", "transformers"):
            found.append(f"{package.name} {installed}")
        if not package.specifier.contains(installed, prereleases=True):
            wrong.append(f"'{package}'")
            found.append(f"{package.name} {installed}")
    advice = f"Run: pip install {' '.join(wrong)}"
    return Check("packages", not wrong, ", ".join(dict.fromkeys(found)), advice)


def encoder() -> Check:
    """The sentence encoder, and whether its weights are the right ones."""
    from seprog.text_encoder import REQUIREMENT, packaged_folder

    try:
        packaged_folder()
    except SeprogError as error:
        return failed("sentence encoder", error)
    return Check("sentence encoder", True, f"{REQUIREMENT}, its hash is right")


def weights() -> Check:
    """What ships with seprog."""
    from seprog import atlas

    files = (
        atlas.MODEL / "config.json",
        atlas.GENERATOR / "generator.json",
        atlas.GATE / "gate.json",
    )
    missing = [str(file.parent) for file in files if not file.exists()]
    advice = (
        "Install seprog again; in a source tree, run: seprog atlas build, train generator, "
        "train gate"
    )
    detail = f"missing: {', '.join(missing)}" if missing else str(atlas.WEIGHTS)
    return Check("shipped weights", not missing, detail, advice)


def sqlite() -> Check:
    """SQLite, and its full-text search."""
    advice = "Use a Python whose SQLite is built with FTS5, as those of python.org are"
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE texts USING fts5(text)")
    except sqlite3.Error as error:
        return Check("sqlite", False, f"{sqlite3.sqlite_version}, without FTS5 ({error})", advice)
    finally:
        connection.close()
    return Check("sqlite", True, f"{sqlite3.sqlite_version} with FTS5")


def processor() -> Check:
    """Threads, and how fast bfloat16 is; never wrong."""
    import torch

    seconds = {dtype: _multiply(dtype) for dtype in (torch.float32, torch.bfloat16)}
    ratio = seconds[torch.float32] / seconds[torch.bfloat16]
    detail = (
        f"{torch.get_num_threads()} threads on {os.cpu_count()} cores; "
        f"bfloat16 is {ratio:.2g} times as fast as float32"
    )
    return Check("processor", True, detail)


def _multiply(dtype: torch.dtype) -> float:
    """Seconds of a small matrix product, at best."""
    import torch

    a, b = torch.ones(32, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return min(times)


CHECKS: tuple[Callable[[], Check], ...] = (packages, encoder, weights, sqlite, processor)
