#!/usr/bin/env bash
# Fuzzes the parsers of bytes from outside, each for so many seconds; all targets if none is named.
#   scripts/fuzz.sh [SECONDS] [TARGET...]
# What a target learns stays in the target folder; fuzz/corpus is only read. A find fails the script and lies in
# fuzz/artifacts/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.13.2
seconds=${1:-60}
shift || true
case $seconds in '' | *[!0-9]*) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;; esac
target=$(mkdir -p "${CARGO_TARGET_DIR:-fuzz/target}/tools" && cd "${CARGO_TARGET_DIR:-fuzz/target}" && pwd)
root=$target/tools
fuzz=$(command -v cargo-fuzz || echo "$root/bin/cargo-fuzz")
if [ ! -x "$fuzz" ]; then
  CARGO_TARGET_DIR="$root/cargo-fuzz-build" cargo install --quiet --debug --locked --root "$root" cargo-fuzz --version "$version" >&2
  rm -rf "$root/cargo-fuzz-build"
fi
# The coverage flags are unstable ones; this lets the stable compiler take them. There is no unsafe parser here, so no
# sanitizer is needed: broken promises and panics are what is looked for.
export RUSTC_BOOTSTRAP=1
[ $# -gt 0 ] || readarray -t targets < <("$fuzz" list)
[ $# -eq 0 ] || targets=("$@")
# The stack of a thread that serves calls: recursion that would end the server must end the target.
ulimit -s 2048
for name in "${targets[@]}"; do
  learned=$target/corpus/$name
  mkdir -p "$learned"
  dictionary=fuzz/dict/$name.dict
  options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1)
  [ ! -e "$dictionary" ] || options+=(-dict="$PWD/$dictionary")
  log=$target/corpus/$name.log
  if ! "$fuzz" run --sanitizer none "$name" "$learned" "fuzz/corpus/$name" -- "${options[@]}" > "$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "$name: a find; see fuzz/artifacts/$name and $log" >&2
    exit 1
  fi
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  echo "$name: $executions executions, $covered edges, no find"
done
