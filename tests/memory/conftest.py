from collections.abc import Iterator
from pathlib import Path

import pytest

from seprog.memory import Memory


@pytest.fixture
def memory() -> Iterator[Memory]:
    with Memory(":memory:") as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"
