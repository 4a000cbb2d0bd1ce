"""OpenAI's own client: an answer, the edits it was given by, and the same as a stream."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("SEPROG_SERVER", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("SEPROG_KEY", "none"),
)
[model] = client.models.list().data
messages = [{"role": "user", "content": "What is the capital of Australia?"}]

answer = client.chat.completions.create(model=model.id, messages=messages)
print(answer.choices[0].message.content)
for edit in answer.seprog["fired"]:
    print(f"  by {edit['id']} ({edit['probability']:.1%}) {edit['statement']}")

bare = client.chat.completions.create(
    model=model.id, messages=messages, extra_body={"seprog": {"enabled": False}}
)
print("without edits:", bare.choices[0].message.content)

for piece in client.chat.completions.create(model=model.id, messages=messages, stream=True):
    print(piece.choices[0].delta.content or "", end="", flush=True)
print()
