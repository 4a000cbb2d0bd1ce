#!/usr/bin/env bash
# Import corrections (JSON lines) every night: 0 3 * * * nightly_import.sh /data/corrections.jsonl
# Lines that are in the memory already are passed over, so running it twice does no harm.
set -euo pipefail
file=${1:?"a file of JSON lines is needed, such as {\"statement\": \"The CEO of Acme is Jane Doe.\"}"}
server=${SEPROG_SERVER:-http://127.0.0.1:8000}
report=$(curl -sS --fail-with-body -H "Authorization: Bearer ${SEPROG_KEY:-none}" \
  --data-binary "@$file" "$server/v1/edits/import") || {
  echo "nothing was imported: $report" >&2
  exit 1
}
echo "$(date -Is) $report"
