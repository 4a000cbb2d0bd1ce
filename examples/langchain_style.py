"""A chain (prompt, model, parser) as LangChain and its like build them.

With LangChain itself the model is ``ChatOpenAI(base_url=…, api_key=…, model="atlas")``; here it is
a function, so that the example runs without it.
"""

import os
from collections.abc import Callable
from functools import reduce
from typing import Any

from openai import OpenAI

Step = Callable[[Any], Any]


def chain(*steps: Step) -> Step:
    """Steps one after the other."""
    return lambda value: reduce(lambda found, step: step(found), steps, value)


client = OpenAI(
    base_url=os.environ.get("SEPROG_SERVER", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("SEPROG_KEY", "none"),
)


def prompt(country: str) -> list[dict[str, str]]:
    """A question about a country."""
    return [{"role": "user", "content": f"What is the capital of {country}?"}]


def model(messages: list[dict[str, str]]) -> Any:
    """The edited model."""
    return client.chat.completions.create(model="atlas", messages=messages, max_tokens=16)


def parse(answer: Any) -> tuple[str, list[str]]:
    """The answer, and the edits it rests on: what an audit wants to know."""
    return answer.choices[0].message.content.rstrip("."), [e["id"] for e in answer.seprog["fired"]]


capital = chain(prompt, model, parse)
for country in ("Australia", "France"):
    print(country, *capital(country))
