# Builds Windrow's images, one target each: producer, worker, scaler, alerter, grouper, cli, test-hub.
#
#   docker build --target worker --tag windrow/worker:dev .
#   docker buildx build --platform linux/amd64,linux/arm64 --target worker --tag REGISTRY/worker:0.1.0 --push .
#
# Without access to Docker Hub, name your own mirrors: --build-arg RUST_IMAGE=… --build-arg RUNTIME_IMAGE=…
# Both images need the same Debian release, because the programs link to the C library of the build image.
ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=docker.io/library/debian:bookworm-slim

# The workspace with all source files emptied, and only those that the manifests need. It changes only when dependencies
# or the names of these files change, so the layer with the built dependencies survives changes of the code.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -path '*/src/lib.rs' ! -path '*/src/main.rs' \
      ! -path '*/benches/*.rs' ! -path './examples/*.rs' ! -path './fuzz/fuzz_targets/*.rs' -delete \
 && find . -type d -empty -delete \
 && echo 'fn main() {}' >/tmp/empty.rs \
 && find . -name '*.rs' -exec cp /tmp/empty.rs {} ';'

FROM ${RUST_IMAGE} AS build
WORKDIR /src
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
# Writes the list of its dependencies into each program, for Trivy, Grype and `cargo audit bin`.
RUN cargo install --locked --root /usr/local cargo-auditable@0.7.7
# Builds the dependencies in their own layer.
COPY --from=manifests /src .
RUN cargo auditable build --release --locked \
    --bin windrow-producer --bin windrow-worker --bin windrow-scaler --bin windrow-alerter --bin windrow-grouper \
    --bin windrow --bin windrow-test-hub
# COPY keeps modification times, which may be older than the build of the empty programs above. Cargo would then
# consider that build current, so touch every source file.
COPY . .
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
 && cargo auditable build --release --locked \
    --bin windrow-producer --bin windrow-worker --bin windrow-scaler --bin windrow-alerter --bin windrow-grouper \
    --bin windrow --bin windrow-test-hub

# The common base of all images.
FROM ${RUNTIME_IMAGE} AS runtime
# The certificate authorities for TLS to Azure and the broker. Not pinned, so that a build gets the current list.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/*
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.source="https://github.com/windrow/windrow" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Numeric, so that Kubernetes can verify that it is not root (runAsNonRoot). The user owns no files: the programs write
# only to the store and the broker, and run on a read-only root file system.
USER 10001:10001
# Relative paths start here when a folder is mounted: docker run --user "$(id -u)" --volume "$PWD:/data" windrow/cli …
WORKDIR /data
STOPSIGNAL SIGTERM

FROM runtime AS producer
LABEL org.opencontainers.image.title="windrow-producer" \
      org.opencontainers.image.description="Reads sensor readings, cuts windows and publishes scoring messages"
COPY --from=build /src/target/release/windrow-producer /usr/local/bin/
ENV WINDROW_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["windrow-producer", "--check-health"]
ENTRYPOINT ["windrow-producer"]

FROM runtime AS worker
LABEL org.opencontainers.image.title="windrow-worker" \
      org.opencontainers.image.description="Scores messages with each sensor's model and persists the predictions"
COPY --from=build /src/target/release/windrow-worker /usr/local/bin/
ENV WINDROW_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["windrow-worker", "--check-health"]
ENTRYPOINT ["windrow-worker"]

FROM runtime AS scaler
LABEL org.opencontainers.image.title="windrow-scaler" \
      org.opencontainers.image.description="Decides how many workers run, and starts and stops them"
# --fleet process runs workers as processes of this container.
COPY --from=build /src/target/release/windrow-scaler /src/target/release/windrow-worker /usr/local/bin/
ENV WINDROW_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["windrow-scaler", "--check-health"]
ENTRYPOINT ["windrow-scaler"]

FROM runtime AS alerter
LABEL org.opencontainers.image.title="windrow-alerter" \
      org.opencontainers.image.description="Makes incidents of predictions, and tells Alertmanager and webhooks"
COPY --from=build /src/target/release/windrow-alerter /usr/local/bin/
ENV WINDROW_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["windrow-alerter", "--check-health"]
ENTRYPOINT ["windrow-alerter"]

FROM runtime AS grouper
LABEL org.opencontainers.image.title="windrow-grouper" \
      org.opencontainers.image.description="Brings the tags of a device together, and has them scored"
COPY --from=build /src/target/release/windrow-grouper /usr/local/bin/
ENV WINDROW_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["windrow-grouper", "--check-health"]
ENTRYPOINT ["windrow-grouper"]

FROM runtime AS test-hub
LABEL org.opencontainers.image.title="windrow-test-hub" \
      org.opencontainers.image.description="A local Azure Event Hub for tests and demonstrations; keeps nothing"
COPY --from=build /src/target/release/windrow-test-hub /usr/local/bin/
ENV WINDROW_TEST_HUB_LISTEN=0.0.0.0:5672
EXPOSE 5672
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["windrow-test-hub", "--check"]
ENTRYPOINT ["windrow-test-hub"]

# Last, because a build without --target builds the last stage.
FROM runtime AS cli
LABEL org.opencontainers.image.title="windrow" \
      org.opencontainers.image.description="Trains and imports models, sends, exports and audits: Windrow's command line"
COPY --from=build /src/target/release/windrow /usr/local/bin/
# Not a service, so it has no health check.
HEALTHCHECK NONE
ENTRYPOINT ["windrow"]
