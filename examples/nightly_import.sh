#!/usr/bin/env bash
# Import corrections (JSON lines) every night: 0 3 * * * nightly_import.sh /data/corrections.jsonl
# Lines whose edits are in force already are passed over, so running it twice does no harm. But an edit
# that was taken back or replaced meanwhile is written anew: take out of the file what is to stay so.
set -euo pipefail
file=${1:?"a file of JSON lines is needed, such as {\"statement\": \"The CEO of Acme is Jane Doe.\"}"}
server=${SEPROG_SERVER:-http://127.0.0.1:8000}
report=$(curl -sS --fail-with-body -H "Authorization: Bearer ${SEPROG_KEY:-none}" \
  --data-binary "@$file" "$server/v1/edits/import") || {
  echo "nothing was imported: $report" >&2
  exit 1
}
echo "$(date -Is) $report"
