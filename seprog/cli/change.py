"""``seprog forget`` and ``seprog restore``: out of force, and back."""

from __future__ import annotations

import time
from dataclasses import asdict

from seprog.cli import common, options
from seprog.cli.edit import superseded_by
from seprog.cli.output import clean, console, example, print_json, short

FORGET_EXAMPLE = example('seprog forget 5f3a09c1 --author ada --reason "it is Canberra"')
RESTORE_EXAMPLE = example("seprog restore 5f3a09c1")


def forget(
    id_: options.Id,
    author: options.Author = None,
    reason: options.Reason = None,
    memory: options.Memory = None,
    namespace: options.OwnNamespace = None,
    json: options.AsJson = False,
) -> None:
    """Take an edit back; the model answers as it did without it.

    An edit that it had superseded stays out of force, until seprog restore brings it back.
    """
    with common.open_memory(memory) as opened:
        common.check_namespace(opened.get(id_), namespace)
        edit = opened.forget(id_, author, reason)
    if json:
        print_json({"edit": asdict(edit)})
    else:
        console().print(f"{short(edit.id)} is forgotten ({clean(edit.statement)})", soft_wrap=True)


def restore(
    id_: options.Id,
    author: options.Author = None,
    reason: options.Reason = None,
    memory: options.Memory = None,
    namespace: options.OwnNamespace = None,
    model: options.Comparing = None,
    json: options.AsJson = False,
) -> None:
    """Bring a forgotten or superseded edit back into force.

    What is in force with the same prompt or triple goes out of it; with a model also what answers
    the same question in other words.
    """
    with common.open_memory(memory) as opened:
        common.check_namespace(opened.get(id_), namespace)
        before = time.time()
        if model is None:
            edit = opened.restore(id_, author, reason)
        else:
            editor = common.comparing_editor(opened.path, model)
            with editor.memory:
                edit = editor.restore(id_, author, reason)
        replaced = superseded_by(opened, edit.id, before)
    if json:
        print_json({"edit": asdict(edit), "superseded": [asdict(old) for old in replaced]})
        return
    out = console()
    out.print(f"{short(edit.id)} is in force again ({clean(edit.statement)})", soft_wrap=True)
    for old in replaced:
        out.print(f"  supersedes {short(old.id)} ({clean(old.statement)})", soft_wrap=True)
