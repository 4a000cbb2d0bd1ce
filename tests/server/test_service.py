"""What the routes share: loading, and waiting for answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from seprog.editor import Editor
from seprog.server.app import create_app
from seprog.server.settings import Settings


def test_whatever_a_model_cannot_be_loaded_for_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> Editor:
        raise RuntimeError("the weights are cut off")

    monkeypatch.setattr(Editor, "from_pretrained", broken)
    app = create_app(Settings.load(auth=False, memory=tmp_path / "edits.db"))
    app.state.service.load()
    client = TestClient(app, "http://localhost")  # without the start, which would load again
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert "the weights are cut off" in ready.json()["error"]["message"]
    assert "cannot be loaded" in client.get("/loading").text
    app.state.service.close()
