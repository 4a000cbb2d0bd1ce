"""API keys: who may do what, for whose edits. In the memory file; of the secrets only hashes."""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Literal, get_args

from seprog.errors import InputError
from seprog.memory.caches import Caches

Role = Literal["ask", "edit", "admin"]
"""What a key may do; each may do what those before it may."""
ROLES: tuple[Role, ...] = get_args(Role)
ANY = "*"
"""Instead of a namespace: all of them."""

_START = "sk-seprog-"
_META = "key/"


@dataclass(frozen=True, slots=True)
class Key:
    """A key, without its secret.

    Args:
        id: The part of the key that may be shown.
        name: Who has it; edits that it writes carry this as their author.
        role: What it may do.
        namespaces: Whose edits it may use; the first one is meant where none is named.
        created_at: Seconds since the epoch (UTC).
    """

    id: str
    name: str
    role: Role
    namespaces: tuple[str, ...]
    created_at: float

    def may(self, role: Role) -> bool:
        """Whether it may do what the role may."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def sees(self, namespace: str) -> bool:
        """Whether it may use a namespace's edits."""
        return ANY in self.namespaces or namespace in self.namespaces

    @property
    def home(self) -> str:
        """The namespace meant where none is named."""
        return "default" if self.namespaces[0] == ANY else self.namespaces[0]


NOBODY = Key("", "anonymous", "admin", (ANY,), 0.0)
"""Who asks where no keys are asked for."""


class KeyRing:
    """The keys of a memory; every change is in force at once, in every process.

    Args:
        memory: Where they are kept.
    """

    def __init__(self, memory: Caches) -> None:
        self._memory = memory

    def add(self, name: str, role: str = "edit", namespaces: tuple[str, ...] = ("default",)) -> str:
        """Make a key.

        Args:
            name: Who gets it.
            role: What it may do; one of ``ROLES``.
            namespaces: Whose edits it may use, at least one; ``*`` is all.

        Returns:
            The key itself, which is not kept and cannot be shown again.

        Raises:
            InputError: A value does not fit.
        """
        if role not in ROLES:
            raise InputError(f"The role {role!r} came", f"one of {', '.join(ROLES)}", "Choose one")
        if not name.strip() or not namespaces or not all(n.strip() for n in namespaces):
            raise InputError(
                f"A key for {name!r} with the namespaces {list(namespaces)} came",
                "a name, and at least one namespace",
                "Say who gets the key, and for whose edits",
            )
        id_, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        key = Key(id_, name.strip(), role, namespaces, time.time())
        self._memory.set_meta(_META + id_, asdict(key) | {"hash": _hash(secret)})
        return f"{_START}{id_}-{secret}"

    def find(self, token: str) -> Key | None:
        """The key that a token is, or ``None`` if it is none (any longer)."""
        id_, dash, secret = token.removeprefix(_START).partition("-")
        if not token.startswith(_START) or not dash:
            return None
        kept = self._memory.get_meta(_META + id_)
        if kept is None or not hmac.compare_digest(kept["hash"], _hash(secret)):
            return None
        return _key(kept)

    def all(self) -> list[Key]:
        """All keys, oldest first."""
        found = [_key(kept) for kept in self._memory.metas(_META).values()]
        return sorted(found, key=lambda key: key.created_at)

    def revoke(self, id_: str) -> None:
        """Make a key worthless.

        Raises:
            InputError: No key has this id.
        """
        if not self._memory.drop_meta(_META + id_):
            raise InputError(
                f"No key has the id {id_!r}", "the id of a key", "See seprog keys list"
            )


def _hash(secret: str) -> str:
    """SHA-256; enough for secrets of 256 random bits, which nobody can guess."""
    return sha256(secret.encode()).hexdigest()


def _key(kept: dict[str, Any]) -> Key:
    fields = {k: v for k, v in kept.items() if k != "hash"}
    return Key(**fields | {"namespaces": tuple(kept["namespaces"])})
