#!/usr/bin/env bash
# Makes sure that what a build or a test run needs is there. Installs what it may (root on Debian: packages;
# everywhere: tools of npm, Go and pip into the target folder) and says loudly what it could not.
#   scripts/prepare.sh build|test
# Prints nothing on standard output. Exits 1 only if building is impossible.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-build}

say() { echo "prepare: $*" >&2; }

packages=()
need() { # COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}

need cc gcc
need make make
if [ "$what" = test ]; then
  need python3 python3
  command -v python3 >/dev/null 2>&1 || packages+=(python3-venv)
  need npm npm
  need go golang-go
  need git git
  need curl curl
  # Debian's python3 comes without what makes virtual environments.
  if command -v python3 >/dev/null 2>&1 && ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    packages+=(python3-venv)
  fi
fi

if [ "${#packages[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing ${packages[*]}"
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
  else
    say "missing: ${packages[*]} (not root on Debian, so not installed here)"
  fi
fi
command -v cc >/dev/null 2>&1 || { say "a C compiler is needed to build (package gcc)"; exit 1; }
command -v cargo >/dev/null 2>&1 || { say "cargo is needed to build: install Rust 1.95 or newer"; exit 1; }
