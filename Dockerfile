# One image with the three programs; docker-compose.yml says which of them a container runs.
# It is built from the sources alone: the queries were checked beforehand (sqlx-data.json), so no database is asked.

FROM rust:1.95-slim-bookworm AS build
# For programs that need no library of a system, and so no system around them.
RUN apt-get update \
    && apt-get install -y --no-install-recommends musl-tools \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs sqlx-data.json ./
COPY migrations migrations
COPY src src
# Members of the workspace, which the lock file is about; neither the example nor the measuring is built.
COPY benches benches
COPY crates crates
COPY examples examples
# Without cache mounts, so that an engine without BuildKit builds it too, such as Debian's with the older docker-compose.
RUN target="$(uname -m)-unknown-linux-musl" \
    && TARGET_CC=musl-gcc cargo build --locked --release --bins --target "$target" \
    && install -D --strip --target-directory=/programs \
        "target/$target/release/restante-ingest" "target/$target/release/restante-worker" "target/$target/release/restante" \
    && mkdir /journal

FROM scratch
ENV PATH=/usr/local/bin
# The API is reached over TLS, and no program brings roots of its own.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /programs/ /usr/local/bin/
# A volume that is mounted here gets this owner. Nothing else is written, so the root file system may be mounted read-only.
COPY --from=build --chown=65532:65532 /journal /journal
# A number, because an orchestrator that refuses root can not tell who hides behind a name.
USER 65532:65532
# 8080 takes webhooks; 9091 (ingest) and 9092 (worker) answer /livez, /readyz and /metrics.
EXPOSE 8080 9091 9092
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["restante", "healthcheck"]
CMD ["restante", "--help"]
