"""Times, as the API takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import pytest
from fastapi import FastAPI, Query
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from seprog.server.errors import install
from seprog.server.schemas import Moment

MOMENT: TypeAdapter[float] = TypeAdapter(Moment)


@given(st.datetimes(timezones=st.timezones()).filter(lambda t: 1970 < t.year < 5000))
def test_a_time_is_the_same_in_every_form(when: datetime) -> None:
    seconds = when.timestamp()
    for form in (seconds, str(seconds), when.isoformat()):
        assert MOMENT.validate_python(form) == pytest.approx(seconds, abs=1e-3)


def test_a_time_without_a_zone_is_utcs() -> None:
    for form in ("1970-01-02", "1970-01-02T00:00", "1970-01-02 00:00:00", "1970-01-02T00:00:00Z"):
        assert MOMENT.validate_python(form) == 86_400.0


@pytest.mark.parametrize("form", ["", "x", "now", "1970-13-01", "nan", "-1", "1e12", "0001-01-01"])
def test_what_is_no_time_is_refused(form: str) -> None:
    with pytest.raises(ValidationError):
        MOMENT.validate_python(form)


def test_a_time_in_an_address() -> None:
    app = FastAPI()
    install(app)

    @app.get("/")
    def at(as_of: Annotated[Moment | None, Query()] = None) -> float | None:
        return as_of

    client = TestClient(app)
    assert client.get("/").json() is None
    assert client.get("/?as_of=7").json() == 7.0
    assert client.get("/?as_of=1970-01-01T01:00:00+01:00").json() == 0.0  # the "+" as it is
    message = client.get("/?as_of=soon").json()["error"]["message"]
    assert message.startswith("The query parameter as_of is 'soon'. Expected a time: seconds")
