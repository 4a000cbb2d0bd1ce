"""The OpenAPI document says all that the server does: checked by requests made from it."""

from __future__ import annotations

from collections.abc import Callable

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

from seprog.editor import Editor
from seprog.server.app import create_app
from seprog.server.settings import Settings
from tests.server.conftest import CAPITAL

BEYOND_SCHEMAS = [positive_data_acceptance]
"""A prompt of too many tokens, an answer longer than the context window: no schema can say so."""
EXAMPLES = 15
"""Requests per route."""


def test_what_the_document_says_holds(make_editor: Callable[..., Editor]) -> None:
    editor = make_editor()
    editor.edit(CAPITAL)
    app = create_app(Settings.load(max_tokens=8), editor)
    token = app.state.service.keys.add("ada", "admin")
    document = schemathesis.openapi.from_asgi("/openapi.json", app)
    routes = [result.ok() for result in document.get_all_operations()]
    assert len(routes) > 15
    for route in routes:

        @given(case=route.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        def check(case: Case) -> None:
            headers = {"Authorization": f"Bearer {token}"}
            case.call_and_validate(headers=headers, excluded_checks=BEYOND_SCHEMAS)

        check()
