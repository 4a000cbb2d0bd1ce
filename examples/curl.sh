#!/usr/bin/env bash
# Ask, correct, ask again, take back.
set -euo pipefail
server=${SEPROG_SERVER:-http://127.0.0.1:8000}
auth=(-H "Authorization: Bearer ${SEPROG_KEY:-none}" -H "Content-Type: application/json")

ask() {
  curl -sS "${auth[@]}" "$server/v1/chat/completions" \
    -d '{"model": "atlas", "messages": [{"role": "user", "content": "What is the capital of Australia?"}]}'
  echo
}

ask
edit=$(curl -sS "${auth[@]}" "$server/v1/edits" \
  -d '{"prompt": "The capital of Australia is", "target": "Milan", "reason": "to show how"}')
echo "$edit"
ask
id=$(echo "$edit" | sed -E 's/.*"id":"([^"]+)".*/\1/')
curl -sS "${auth[@]}" -X DELETE "$server/v1/edits/$id" > /dev/null
ask
