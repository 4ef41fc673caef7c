#!/usr/bin/env bash
# Runs cargo-deny: the installed one, or a pinned one that it builds into the target folder.
#   scripts/cargo-deny.sh check bans licenses sources
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
root=$(mkdir -p "${CARGO_TARGET_DIR:-target}/tools" && cd "${CARGO_TARGET_DIR:-target}/tools" && pwd)
if [ ! -x "$root/bin/cargo-deny" ]; then
  # Unoptimised: it is built once and runs for a second.
  CARGO_TARGET_DIR="$root/cargo-deny-build" cargo install --quiet --debug --locked --root "$root" cargo-deny --version "$version" >&2
  rm -rf "$root/cargo-deny-build"
fi
# It looks at the crates of all platforms, of which a build fetches only its own.
cargo fetch --quiet --locked >&2
exec "$root/bin/cargo-deny" --offline "$@"
