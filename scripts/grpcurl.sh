#!/usr/bin/env bash
# Prints the path of grpcurl: the installed one, or a pinned one that it builds into the target folder.
set -euo pipefail
cd "$(dirname "$0")/.."
version=v1.9.4
if command -v grpcurl >/dev/null 2>&1; then
  command -v grpcurl
  exit
fi
folder=$(mkdir -p "${CARGO_TARGET_DIR:-target}/tools/bin" && cd "${CARGO_TARGET_DIR:-target}/tools/bin" && pwd)
if [ ! -x "$folder/grpcurl" ]; then
  command -v go >/dev/null 2>&1 || { echo 'grpcurl.sh: neither grpcurl nor Go is installed' >&2; exit 1; }
  GOBIN=$folder go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version" >&2
fi
echo "$folder/grpcurl"
