#!/usr/bin/env bash
# Generates the Python stubs of the contract from pinned plugins, with package-relative imports.
#   scripts/generate-sdk.sh            rewrites sdk/python/src/casemate/v1
#   scripts/generate-sdk.sh --check    fails if what is committed differs
set -euo pipefail
cd "$(dirname "$0")/.."
# Generated code asks for a runtime at least as new as its generator: the pins decide what users need.
plugins=(grpcio-tools==1.74.0 mypy-protobuf==3.6.0 setuptools==80.9.0)
tools=$(mkdir -p "${CARGO_TARGET_DIR:-target}/tools" && cd "${CARGO_TARGET_DIR:-target}/tools" && pwd)/python-sdk
if [ "$(cat "$tools/pins" 2>/dev/null)" != "${plugins[*]}" ]; then
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet "${plugins[@]}" >&2
  echo "${plugins[*]}" > "$tools/pins"
fi

generate() { # FOLDER
  local out=$1
  PATH="$tools/bin:$PATH" "$tools/bin/python" -m grpc_tools.protoc -I proto \
    --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
    proto/casemate/v1/*.proto
  # The generator names the contract's package from the root; inside the SDK it is a sibling.
  sed -i -E 's/^from casemate\.v1 import /from . import /; s/^import casemate\.v1\.(\w+)$/from . import \1/; s/\bcasemate\.v1\.(\w+_pb2)\b/\1/g' \
    "$out"/casemate/v1/*.py "$out"/casemate/v1/*.pyi
  echo '"""Generated from proto/casemate/v1 by scripts/generate-sdk.sh."""' > "$out/casemate/v1/__init__.py"
}

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
generate "$fresh"
committed=sdk/python/src/casemate/v1
if [ "${1:-}" = --check ]; then
  if ! diff -rq -x __pycache__ "$fresh/casemate/v1" "$committed" >&2; then
    echo 'generate-sdk.sh: the stubs do not fit the contract; run scripts/generate-sdk.sh and commit' >&2
    exit 1
  fi
else
  rm -rf "$committed"
  mkdir -p "$(dirname "$committed")"
  cp -r "$fresh/casemate/v1" "$committed"
fi
