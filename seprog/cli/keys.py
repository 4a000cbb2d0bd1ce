"""``seprog keys``: who may use the server, and for what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from seprog.cli import common, options
from seprog.cli.output import console, example, print_json, print_table, when

app = typer.Typer(help="API keys of the server: make, list, revoke.")

ADD_EXAMPLE = example(
    "seprog keys add ada --role admin --memory edits.db",
    "seprog keys add newsroom --role edit --namespace news",
)
LIST_EXAMPLE = example("seprog keys list")
REVOKE_EXAMPLE = example("seprog keys revoke 5f3a09c1d2e4")


@app.command("add", epilog=ADD_EXAMPLE)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who gets it.")],
    role: Annotated[
        str,
        typer.Option(metavar="ROLE", help="What it may do: ask, edit (and ask), admin (and both)."),
    ] = "edit",
    namespace: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Whose edits; may be repeated; '*' means everyone's."),
    ] = None,
    memory: options.Memory = None,
    json: options.AsJson = False,
) -> None:
    """Make a key. It is printed once; the memory keeps only a hash of it."""
    from seprog.memory.keys import KeyRing

    with common.open_memory(memory, create=True) as opened:
        token = KeyRing(opened).add(name, role, tuple(namespace or ("default",)))
    if json:
        print_json({"key": token})
        return
    console().print(token, soft_wrap=True)
    typer.echo("Keep it safe: it is not shown again.", err=True)


@app.command("list", epilog=LIST_EXAMPLE)
def list_keys(memory: options.Memory = None, json: options.AsJson = False) -> None:
    """List the keys, without their secrets."""
    from seprog.memory.keys import KeyRing

    with common.open_memory(memory) as opened:
        keys = KeyRing(opened).all()
    if json:
        print_json([asdict(key) for key in keys])
        return
    rows = [(k.id, k.name, k.role, when(k.created_at), ", ".join(k.namespaces)) for k in keys]
    if rows:
        print_table(("id", "name", "role", "made", "namespaces"), rows)
    else:
        typer.echo("There are no keys; make one with: seprog keys add NAME", err=True)


@app.command("revoke", epilog=REVOKE_EXAMPLE)
def revoke(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The id of a key.")],
    memory: options.Memory = None,
) -> None:
    """Make a key worthless, at once."""
    from seprog.memory.keys import KeyRing

    with common.open_memory(memory) as opened:
        KeyRing(opened).revoke(id_)
    console().print(f"{id_} is revoked")
