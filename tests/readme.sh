#!/usr/bin/env bash
# Follows the README with the real binary and grpcurl: init, serve, a call by reflection alone, the CLI, containers, a
# probe.
#   CASEMATE_BIN=path tests/readme.sh
# Containers need a Docker daemon with the image casemate-test/busybox:1 (scripts/docker.sh, scripts/test-images.sh).
# Without, they are skipped loudly, or with CASEMATE_TEST_DOCKER set fail.
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
grpcurl=$(scripts/grpcurl.sh)
casemate=${CASEMATE_BIN:?path of the casemate binary}
folder=$(mktemp -d)
server=
box=
notes=
cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  if [ -n "$box$notes" ]; then docker rm --force "casemate-$box" "casemate-$notes" > /dev/null 2>&1 || true; fi
  rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"

"$casemate" init > init.txt
grep -q 'token' init.txt
[ "$(stat -c %a casemate.toml)" = 600 ]
begin() { # ADDRESS HTTP_ADDRESS
  rm -f ready.json
  "$casemate" serve --address "$1" --http-address "$2" --tools "$repository/examples/tools" --ready-file ready.json 2>> log &
  server=$!
}
ready() {
  for _ in $(seq 300); do [ -e ready.json ] && break; kill -0 "$server" || { cat log; exit 1; }; sleep 0.1; done
}
begin 127.0.0.1:0 127.0.0.1:0
ready
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
# The section about containers, command by command as the page has it. A command that is not known here fails.
section=$(sed -n '/^## Run commands in containers$/,/^## Use it from code$/p' "$repository/README.md")
block() { # LANGUAGE: the lines of all such blocks of the section
  sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/{/^\`\`\`/d;p}" <<< "$section"
}
containers() {
  local line text
  local image=alpine:3 ours=casemate-test/busybox:1
  local books=jupyter/base-notebook own_books=casemate-test/jupyter:1
  block toml | sed "s|\"$image\"|\"$ours\"|; s|\"$books\"|\"$own_books\"|" >> casemate.toml
  grep -q "^images = \[\"$ours\", \"$own_books\"\]\$" casemate.toml
  kill "$server"
  wait "$server"
  begin "$address" "$http"
  ready
  casemate() { "$casemate" "$@"; }
  while read -r line <&3; do
    case $line in
      "casemate containers spawn $image --name box -- "*)
        box=$(eval "${line/"$image"/"$ours"}")
        expect 'a container is made' '^[0-9a-f-]\{36\}$' <<< "$box" ;;
      'casemate exec box id')
        eval "$line" | expect 'a command runs in it' '^uid=1000' ;;
      'echo hello | casemate exec -i box tr a-z A-Z')
        eval "$line" | expect 'it has the input' '^HELLO$' ;;
      'casemate exec -it box sh')
        # A terminal of its own, and somebody who types.
        text=$(python3 - "$casemate" ${line#casemate } <<'TYPIST'
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said, typed = b"", False
while True:
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        break
    if not piece:
        break
    said += piece
    if not typed and (b"$ " in said or b"# " in said):
        typed = True
        os.write(terminal, b"test -t 0 && echo is-a-$((6 * 7))-terminal; exit 7\r")
sys.stdout.buffer.write(said)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(f"exit code {code}")
TYPIST
)
        expect 'a shell has a terminal' 'is-a-42-terminal' <<< "$text"
        expect 'its exit code is the command'"'"'s' '^exit code 7$' <<< "$text" ;;
      'casemate containers logs box')
        eval "$line" | expect 'the main process has a log' '^ready$' ;;
      "echo 'buy milk' > note.txt")
        eval "$line"
        echo 'ok: a file is made' ;;
      'casemate cp note.txt box:')
        eval "$line"
        echo 'ok: a file is copied into a container' ;;
      'casemate ls box:')
        eval "$line" | expect 'a directory is listed' '/workspace/note.txt' ;;
      'casemate cat box:note.txt')
        eval "$line" | expect 'a file is printed' '^buy milk$' ;;
      "casemate exec --detach box sh -c 'while nc "*)
        eval "$line" > /dev/null
        echo 'ok: something listens in the container' ;;
      'casemate forward box 8000 &')
        # Port 8000 of this machine may be taken.
        "$casemate" forward box 0:8000 > forwarded 2> cuts &
        forward=$!
        until grep -q '^127' forwarded; do kill -0 "$forward"; done
        python3 - "$(sed 's/ .*//' forwarded)" <<'CALLER' | expect 'a port is reached' '^echoed$'
import socket, sys, time
host, port = sys.argv[1].rsplit(":", 1)
deadline = time.monotonic() + 30
while True:
    # The server inside may not listen yet.
    text = b""
    try:
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"echoed\n")
            connection.shutdown(socket.SHUT_WR)
            text = connection.recv(100)
    except OSError:
        time.sleep(0.05)
    if text or time.monotonic() > deadline:
        break
print(text.decode(), end="")
CALLER
        kill "$forward" ;;
      'casemate tools schemas --in box')
        eval "$line" | expect 'the tools of a container are listed' '"shell"' ;;
      "casemate run --in box shell 'wc -c note.txt'")
        eval "$line" | expect 'a tool runs in a container' '^9 note.txt$' ;;
      "casemate pool create warm $image --size 2 -- sleep infinity")
        eval "${line/"$image"/"$ours"}" | expect 'a pool is made' 'warm' ;;
      "casemate run --pool warm shell 'echo nobody was here; ls -A'")
        eval "$line" | tr '\n' ' ' | expect 'a tool runs in a container of a pool' '^nobody was here $' ;;
      'casemate pool delete warm')
        eval "$line" | expect 'a pool is deleted' '.' ;;
      "casemate containers spawn $books --name notes -- "*)
        notes=$(eval "${line/"$books"/"$own_books"}")
        expect 'a container with Jupyter is made' '^[0-9a-f-]\{36\}$' <<< "$notes" ;;
      'notebook=$(casemate sessions create notebook --in notes)')
        eval "$line"
        expect 'a kernel is started in it' '^[0-9a-f-]\{36\}$' <<< "$notebook" ;;
      "casemate run notebook --session \"\$notebook\" 'from IPython"*)
        eval "$line"
        echo 'ok: a cell runs' ;;
      "casemate run notebook --session \"\$notebook\" 'display"*)
        eval "$line" 2>&1 | tr '\n' ' ' | expect 'a cell shows what it has' '21' ;;
      "casemate run notebook --session \"\$notebook\" 'print(x)'")
        eval "$line" | expect 'a kernel lives through the kill of the server' '^20$' ;;
      'run=$(casemate exec --detach box '*)
        eval "$line"
        expect 'a command is left running' '^[0-9a-f-]\{36\}$' <<< "$run" ;;
      'kill -9 "$(pidof casemate)"')
        # There may be others of that name on this machine.
        { kill -9 "$server"; wait "$server" || true; } 2> /dev/null ;;
      'make serve &')
        # What was built and installed is what is tried.
        begin "$address" "$http" ;;
      'until casemate health; do sleep 1; done')
        ready
        eval "$line" > /dev/null
        echo 'ok: a server comes back' ;;
      'casemate attach "$run"')
        eval "$line" | tr '\n' ' ' | expect 'nothing is lost when the server is killed' '^1 2 3 4 5 6 $' ;;
      'casemate containers stop box notes')
        eval "$line" | expect 'a container is stopped' 'STOPPED' ;;
      *) echo "FAILED: tests/readme.sh does not know how to try: $line"; exit 1 ;;
    esac
    tried=$((tried + 1))
  done 3< <(block sh)
  unset -f casemate
}
if docker image inspect casemate-test/busybox:1 > /dev/null 2>&1; then
  tried=0
  containers
  [ "$tried" = 27 ] || { echo "FAILED: $tried commands about containers in the README, expected 27"; exit 1; }
elif [ -n "${CASEMATE_TEST_DOCKER:-}" ]; then
  echo 'FAILED: no Docker daemon with casemate-test/busybox:1: scripts/docker.sh and scripts/test-images.sh make them'
  exit 1
else
  echo '!! SKIPPED the containers of the README: no Docker daemon with casemate-test/busybox:1' >&2
fi
"$casemate" executions list | expect 'the CLI lists executions' 'echo'
"$casemate" health | expect 'the probe answers' '.'
curl -fsS "http://$http/health" | expect 'the sidecar answers' '"status"'
curl -fsS "http://$http/metrics" | expect 'metrics are there' 'casemate_rpc_requests_total'
echo 'the README holds'
