# One image with the three programs; docker-compose.yml says which of them a container runs.
# It is built from the sources alone: the queries were checked beforehand (sqlx-data.json), so no database is asked.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs sqlx-data.json ./
COPY migrations migrations
COPY src src
# Members of the workspace, which the lock file is about; neither the example nor the measuring is built.
COPY benches benches
COPY crates crates
COPY examples examples
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bins \
    && install -D --target-directory=/programs \
        target/release/restante-ingest target/release/restante-worker target/release/restante

FROM debian:bookworm-slim
# The API and Postgres are reached over TLS, and neither program brings roots of its own.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /programs/ /usr/local/bin/
# A number, because an orchestrator that refuses root can not tell who hides behind a name. Nothing is written to
# the disk, so the root file system may be mounted read-only.
USER 65532:65532
# 8080 takes webhooks; 9091 (ingest) and 9092 (worker) answer /livez, /readyz and /metrics.
EXPOSE 8080 9091 9092
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["restante", "healthcheck"]
CMD ["restante", "--help"]
