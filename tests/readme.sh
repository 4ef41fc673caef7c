#!/usr/bin/env bash
# Follows the README with the real binary and grpcurl: init, serve, a call by reflection alone, the CLI, a probe.
#   CASEMATE_BIN=path tests/readme.sh
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
grpcurl=$(scripts/grpcurl.sh)
casemate=${CASEMATE_BIN:?path of the casemate binary}
folder=$(mktemp -d)
server=
cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"

"$casemate" init > init.txt
grep -q 'token' init.txt
[ "$(stat -c %a casemate.toml)" = 600 ]
"$casemate" serve --address 127.0.0.1:0 --http-address 127.0.0.1:0 --tools "$repository/examples/tools" --ready-file ready.json 2> log &
server=$!
for _ in $(seq 300); do [ -e ready.json ] && break; kill -0 "$server" || { cat log; exit 1; }; sleep 0.1; done
address=$(python3 -c 'import json; print(json.load(open("ready.json"))["grpc"])')
http=$(python3 -c 'import json; print(json.load(open("ready.json"))["http"])')
token=$(sed -n 's/^token = "\(.*\)"/\1/p' casemate.toml)

expect() { # DESCRIPTION PATTERN, on standard input
  local text; text=$(cat)
  if grep -q -- "$2" <<< "$text"; then echo "ok: $1"; else printf 'FAILED: %s: no %s in\n%s\n' "$1" "$2" "$text"; exit 1; fi
}

"$grpcurl" -plaintext -H "authorization: Bearer $token" \
  -d '{"call": {"tool": "text_stats", "parameters": {"text": "All the world is a stage."}}}' \
  "$address" casemate.v1.Tools/ExecuteTool | expect 'a tool runs through grpcurl' '"words": 6'
"$grpcurl" -plaintext -H "authorization: Bearer $token" \
  -d '{"call": {"tool": "echo", "parameters": {"text": "hi"}}}' \
  "$address" casemate.v1.Tools/ExecuteToolStream | expect 'events stream through grpcurl' '"finished"'
"$grpcurl" -plaintext "$address" list | expect 'reflection lists the services' 'casemate.v1.Executions'
"$grpcurl" -plaintext "$address" grpc.health.v1.Health/Check | expect 'health needs no token' 'SERVING'
"$grpcurl" -plaintext -d '{"call": {"tool": "echo"}}' "$address" casemate.v1.Tools/ExecuteTool 2>&1 \
  | expect 'strangers are turned away' 'Unauthenticated' || true

export CASEMATE_ADDRESS=$address
"$casemate" tools list | expect 'the CLI lists tools' 'text_stats'
"$casemate" run echo '{"text": "hello"}' | expect 'the CLI runs a tool' 'hello'
if [ -n "${CASEMATE_INTERPRETERS__DIRECTORY:-}" ]; then
  "$casemate" run python 'import pandas as pd; pd.DataFrame({"a": [1, 2]}).a.sum()' 2>&1 | expect 'Python runs' '3'
  "$casemate" run python - <<< 'import pandas as pd; print(pd.DataFrame({"a": [1, 2]}).sum())' | expect 'Python runs from standard input' '3'
  # Through gRPC alone, as it streams.
  "$grpcurl" -plaintext -H "authorization: Bearer $token" \
    -d '{"call": {"tool": "python", "parameters": {"code": "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint(40 + 2)"}}}' \
    "$address" casemate.v1.Tools/ExecuteToolStream | expect 'a figure streams through grpcurl' 'image/png'
  "$casemate" run javascript '{"code": "const n: number = 40; console.log(n + 2)", "language": "typescript"}' | expect 'TypeScript runs' '42'
  session=$("$casemate" sessions create python)
  "$casemate" run python --session "$session" '{"code": "x = 41"}'
  "$casemate" run python --session "$session" '{"code": "x + 1"}' 2>&1 | expect 'a session keeps its state' '42'
  "$casemate" sessions fork "$session" | expect 'a session is copied' '.'
  "$casemate" sessions snapshot "$session" with-x | expect 'a session is frozen' 'with-x'
  "$casemate" run python --snapshot with-x '{"code": "x"}' 2>&1 | expect 'isolates start from it' '41'
  # What pip would put there, without a network.
  mkdir -p packages/cowsay packages/cowsay-6.1.dist-info
  echo 'def cow(text): print(f"< {text} >")' > packages/cowsay/__init__.py
  printf 'Metadata-Version: 2.1\nName: cowsay\nVersion: 6.1\n' > packages/cowsay-6.1.dist-info/METADATA
  echo 'import cowsay' > preload.py
  "$casemate" snapshots build talk --preload preload.py --packages packages | expect 'a snapshot is built' 'cowsay 6.1'
  "$casemate" run python --snapshot talk 'import cowsay; cowsay.cow("moo")' | expect 'its packages are there' '< moo >'
  "$casemate" snapshots list | expect 'snapshots are listed' '"sizeBytes"'
fi
"$casemate" executions list | expect 'the CLI lists executions' 'echo'
"$casemate" health | expect 'the probe answers' '.'
curl -fsS "http://$http/health" | expect 'the sidecar answers' '"status"'
curl -fsS "http://$http/metrics" | expect 'metrics are there' 'casemate_rpc_requests_total'
echo 'the README holds'
