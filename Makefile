# make serve: builds, installs Python and JavaScript (once), starts a server with the example tools.  make test: prepares and runs all tests.
TARGET := $(or $(CARGO_TARGET_DIR),target)
CASEMATE := $(TARGET)/release/casemate

.PHONY: build serve test lint bench sdk tools

build:
	scripts/prepare.sh build
	cargo build --release --locked

serve: build
	@test -e casemate.toml || $(CASEMATE) init
	@$(CASEMATE) interpreters install || echo '!! Python and JavaScript are not there; the server starts without them' >&2
	$(CASEMATE) serve --tools examples/tools

test:
	scripts/test.sh

lint:
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --package casemate-guest --features supervisor --all-targets -- -D warnings
	scripts/buf.sh lint
	scripts/buf.sh format --diff --exit-code
	scripts/buf.sh breaking
	scripts/cargo-deny.sh check bans licenses sources
	scripts/generate-sdk.sh --check

# One table, and JSON with stable names in $(TARGET)/bench.json.
bench: build
	$(CASEMATE) interpreters install --directory $(TARGET)/interpreters
	cargo bench --locked --bench edge -- --json $(TARGET)/bench.json

# Regenerates what is committed.
sdk:
	scripts/generate-sdk.sh

tools:
	scripts/build-tools.sh
