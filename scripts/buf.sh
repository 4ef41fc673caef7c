#!/usr/bin/env bash
# Runs a pinned buf over the contract. Needs npm and nothing else: the first run installs the npm package,
# which carries the binary, into the target folder.
#   scripts/buf.sh lint                what CI runs
#   scripts/buf.sh format [-d | -w]    show or write the canonical formatting
#   scripts/buf.sh breaking [AGAINST]  compare with the main branch, or with any input buf takes
#   scripts/buf.sh ANYTHING ...        passed to buf as it is, started in the repository's root
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.75.0
folder=$(mkdir -p "${CARGO_TARGET_DIR:-target}/tools" && cd "${CARGO_TARGET_DIR:-target}/tools" && pwd)/buf-$version
buf=$folder/node_modules/.bin/buf
if [ ! -x "$buf" ]; then
  command -v npm >/dev/null 2>&1 || { echo 'buf.sh: npm is needed to install buf (Debian: apt-get install npm)' >&2; exit 1; }
  # Installed beside and moved into place, so that a run that is cut off or a second one leaves no half of it.
  fresh=$(mktemp -d "$folder.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  npm install --silent --no-audit --no-fund --no-save --prefix "$fresh" "@bufbuild/buf@$version" >&2
  # Node comes with npm, and its rename refuses a folder that is in the way: another run was first then.
  node -e 'require("fs").renameSync(process.argv[1], process.argv[2])' "$fresh" "$folder" 2>/dev/null || [ -x "$buf" ]
  rm -rf "$fresh" # exec runs no trap
  trap - EXIT
fi

command=${1:-lint}
[ $# -eq 0 ] || shift
case $command in
  lint | format)
    exec "$buf" "$command" proto "$@"
    ;;
  breaking)
    if [ $# -gt 0 ]; then
      exec "$buf" breaking proto --against "$@"
    fi
    # What was promised is what the main branch holds. In a clone that has no local main (CI checks out a
    # commit), origin's is taken.
    for branch in main origin/main; do
      if git rev-parse --quiet --verify "$branch^{commit}" >/dev/null; then
        if [ -z "$(git ls-tree -r --name-only "$branch" -- proto | grep '\.proto$' || true)" ]; then
          echo "buf.sh: $branch has no contract yet, so nothing can break" >&2
          exit 0
        fi
        exec "$buf" breaking proto --against ".git#ref=$branch,subdir=proto"
      fi
    done
    echo 'buf.sh: there is no main branch to compare with: name one, for example .git#tag=v1,subdir=proto' >&2
    exit 1
    ;;
  *)
    exec "$buf" "$command" "$@"
    ;;
esac
