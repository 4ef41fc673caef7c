#!/usr/bin/env bash
# Runs the README's first command as it stands, on its own ports, and makes the call that the README shows.
# Writes casemate.toml and casemate-data into the checkout, as the command does: meant for a fresh clone.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -e casemate.toml ]; then echo 'serve.sh: casemate.toml exists; run this in a fresh clone' >&2; exit 1; fi
grpcurl=$(scripts/grpcurl.sh)
setsid make serve > serve.log 2>&1 &
group=$!
cleanup() { kill -TERM -- "-$group" 2>/dev/null || true; wait "$group" 2>/dev/null || true; rm -f serve.log; }
trap cleanup EXIT
until curl -fsS http://127.0.0.1:9801/health/ready > /dev/null 2>&1; do
  kill -0 "$group" 2>/dev/null || { cat serve.log >&2; exit 1; }
  sleep 1
done
token=$(sed -n 's/^token = "\(.*\)"/\1/p' casemate.toml)
"$grpcurl" -plaintext -H "authorization: Bearer $token" \
  -d '{"call": {"tool": "text_stats", "parameters": {"text": "All the world is a stage."}}}' \
  127.0.0.1:9800 casemate.v1.Tools/ExecuteTool | grep -q '"words": 6'
"$grpcurl" -plaintext -H "authorization: Bearer $token" \
  -d '{"call": {"tool": "python", "parameters": {"code": "print(40 + 2)"}}}' \
  127.0.0.1:9800 casemate.v1.Tools/ExecuteTool | grep -q '42'
echo 'make serve serves'
