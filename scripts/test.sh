#!/usr/bin/env bash
# Prepares what the tests need, then runs all of them. Says loudly what it had to skip and why.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
skipped=()

step() { printf '\n== %s\n' "$*"; }

scripts/prepare.sh test

step 'The interpreters: fetched, verified, compiled, preloaded; skipped when they are there'
cargo build --locked
interpreters=$(cd "$target" && pwd)/interpreters
if "$target/debug/casemate" interpreters install --directory "$interpreters"; then
  export CASEMATE_TEST_INTERPRETERS=$interpreters
else
  skipped+=('the interpreters: they could not be installed, see above')
fi

step 'Docker: a daemon, and images made of packages; skipped when they are there'
export CASEMATE_DOCKERD_PID=$(mktemp)
stop_docker() {
  # Only the daemon that was started here, or the one that tests put in its place.
  local pid
  pid=$(cat "$CASEMATE_DOCKERD_PID" 2>/dev/null || true)
  rm -f "$CASEMATE_DOCKERD_PID"
  [ -n "$pid" ] || return 0
  kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  # A daemon that tests killed while it made containers has forgotten those, and nobody else ends them.
  local shim
  for shim in $(pgrep -f 'containerd-shim-runc-v2 .*-address /var/run/docker/' || true); do
    pkill -KILL -P "$shim" || true
    kill -KILL "$shim" 2>/dev/null || true
  done
}
trap stop_docker EXIT
if scripts/docker.sh && scripts/test-images.sh; then
  export CASEMATE_TEST_DOCKER=1
  # Tests that stop and start the daemon may do so with the one that was started here, and with no other.
  [ ! -s "$CASEMATE_DOCKERD_PID" ] || export CASEMATE_TEST_DOCKER_OWN=1
else
  skipped+=('containers: there is no Docker daemon, or its test images could not be made, see above')
fi

step 'Rust: the library, the binary, the documentation'
cargo test --locked

step 'The supervisor of containers'
cargo test --locked --package casemate-guest --features supervisor

casemate=$(cd "$target" && pwd)/debug/casemate

step 'The examples'
cargo run --locked --quiet --example engine
cargo run --locked --quiet --example execution

step 'Python SDK against the binary'
if python3 -c 'import venv, ensurepip' 2>/dev/null; then
  python=$(cd "$target" && pwd)/tools/python-test
  [ -x "$python/bin/python" ] || python3 -m venv "$python"
  "$python/bin/pip" install --quiet --editable 'sdk/python[test]'
  CASEMATE_BIN=$casemate "$python/bin/python" -m pytest -q sdk/python/tests
else
  skipped+=('the Python SDK: python3 with venv is missing')
fi

step 'Example tools: a rebuild behaves as what is committed'
if python3 -c 'import venv, ensurepip' 2>/dev/null; then
  scripts/build-tools.sh --check
else
  skipped+=('the rebuild of the example tools: python3 with venv is missing')
fi

step 'The README, as a stranger would follow it'
if scripts/grpcurl.sh > /dev/null; then
  CASEMATE_INTERPRETERS__DIRECTORY=${CASEMATE_TEST_INTERPRETERS:-} CASEMATE_BIN=$casemate tests/readme.sh
else
  skipped+=('the README with grpcurl: there is none, and no Go that can build it')
fi

if [ "${#skipped[@]}" -gt 0 ]; then
  printf '\n!! SKIPPED %s\n' "${skipped[@]}" >&2
  [ -z "${CI:-}" ] || { echo '!! CI skips nothing' >&2; exit 1; }
fi
printf '\nall tests passed\n'
