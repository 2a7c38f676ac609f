# make demo   all of Windrow on a simulated fleet, in this one process
# make test   every test
# make lint   formatting, lints, documentation, dependencies
# make bench  the figures in README.md

CARGO ?= cargo

.PHONY: demo test lint bench reference

demo: target/.toolchain
	$(CARGO) run --release --locked --quiet --bin windrow -- demo

test: target/.toolchain
	$(CARGO) test --workspace --locked

# Needs the reference architecture's data and models; see tests/src/reference.rs.
reference: target/.toolchain
	$(CARGO) test --locked --package windrow-tests -- --ignored reference

lint: target/.toolchain
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked
	$(CARGO) deny check bans licenses sources
	@if $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny check --disable-fetch advisories; \
	  else echo "NOT CHECKED: advisories; their database (github.com/RustSec/advisory-db) cannot be reached"; fi

bench: target/.toolchain
	$(CARGO) bench --locked --package windrow-producer --bench decode
	$(CARGO) bench --locked --package windrow-model --bench kernel
	$(CARGO) bench --locked --package windrow-tests --bench end_to_end

# The linker and C compiler that zstd needs; Debian's cargo comes with neither said nor done.
target/.toolchain:
	@command -v cc >/dev/null || { \
	  echo "installing a C compiler"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -qqy gcc libc6-dev; \
	  elif command -v sudo >/dev/null; then sudo apt-get update -qq && sudo apt-get install -qqy gcc libc6-dev; \
	  else echo "install a C compiler first: apt-get install gcc libc6-dev"; exit 1; fi; }
	@mkdir -p target && touch $@
