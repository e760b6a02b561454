# All tasks that people and CI run in this repository. GNU make 3.81 (as on macOS) is enough.
#
# No recipe leaves anything running: scripts/with-postgres or the programs themselves start the servers, and these end
# with the process that started them, even at Ctrl-C or if it is killed.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test world-test upgrade-test alerts-test crowd-test journal-test flood-test retention-test console-test page-test governor-test sdk-test proxy-test compose-test package-test fences build release docs bench prepare prepare-check deny rust

# Finds (or installs) Postgres once, in the recipe that needs it.
with_pg_bin = PG_BIN="$$(scripts/postgres-bin)" && export PG_BIN

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: rust ## show everything at work, with a private Postgres; KEEP=1 keeps it running
	@$(with_pg_bin) && cargo build --locked --bins && exec cargo run --quiet --locked --bin restante -- demo $(if $(KEEP),--keep)

# Cargo builds the programs along with the tests of their package, and runs no test before everything is built. The second
# clippy checks the library without any feature.
test: rust ## all checks: format, lints, docs, tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --package restante --lib -- -D warnings
	scripts/readme-handler
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
	$(with_pg_bin) && scripts/with-own-tmp cargo test --locked --workspace

crowd-test: rust ## people, applications and services at once in one database, for ten minutes and for a minute each
	cargo build --locked --bins
	$(with_pg_bin) && export RESTANTE_INTERLEAVED_SECONDS=600 RESTANTE_CROWD_SECONDS=60 RESTANTE_CROWD_PER_SECOND=200 RESTANTE_OUTAGE_SECONDS=600 RESTANTE_OUTAGE_EVENTS=2000 && \
		scripts/with-own-tmp cargo test --locked --test it -- --nocapture --test-threads 1 interleaved crowd outages

# Databases as other people run them: settings, rights, encodings, replicas, restores, locks and switchovers, which `make test`
# runs too, and poolers, which need a PgBouncer. If there is none, it is installed.
world-test: rust ## test databases as other people run them: settings, standbys, restores, poolers
	cargo build --locked --bins
	@scripts/pgbouncer
	$(with_pg_bin) && PATH="$$PATH:/usr/sbin" scripts/with-own-tmp cargo test --locked --test it -- elsewhere::
	$(with_pg_bin) && PATH="$$PATH:/usr/sbin" scripts/with-own-tmp cargo test --locked --test poolers

# The programs of the release before (tests/releases/table) are built once, in target/releases.
upgrade-test: rust ## run an upgrade and a rollback under load, with the programs of the release before
	cargo build --locked --bins
	$(with_pg_bin) && RESTANTE_RELEASE_BEFORE="$$(scripts/release-before)" && export RESTANTE_RELEASE_BEFORE && \
		scripts/with-own-tmp cargo test --locked --test upgrade -- --nocapture

journal-test: rust ## take the database away for ten minutes of 200 deliveries a second, and kill ingest five times meanwhile
	cargo build --locked --bins
	$(with_pg_bin) && export RESTANTE_JOURNAL_SECONDS=600 RESTANTE_JOURNAL_PER_SECOND=200 && \
		scripts/with-own-tmp cargo test --locked --test it -- --nocapture --test-threads 1 journal::

retention-test: rust ## drop a week of a million rows beside 800 deliveries a second, and see how long any statement waits
	cargo build --locked --bins
	$(with_pg_bin) && export RESTANTE_RETENTION_ROWS=1000000 RESTANTE_RETENTION_PER_SECOND=200 && \
		scripts/with-own-tmp cargo test --locked --test it -- --nocapture --test-threads 1 retention::beside

flood-test: rust ## send 100,000 bad requests of every kind beside good deliveries, and expect a few dozen rows
	cargo build --locked --bins
	$(with_pg_bin) && export RESTANTE_FLOOD_REQUESTS=100000 && \
		scripts/with-own-tmp cargo test --locked --test it -- --nocapture --test-threads 1 flood::

governor-test: rust ## see that workers keep to the API's limit together, and refuse the key for ten minutes with 10,000 events waiting, where nothing else runs
	cargo build --locked --bins
	$(with_pg_bin) && export RESTANTE_GOVERNOR_ALONE=1 RESTANTE_REFUSED_EVENTS=10000 RESTANTE_REFUSED_SECONDS=600 && \
		scripts/with-own-tmp cargo test --locked --test it -- --nocapture --test-threads 1 governor::

alerts-test: rust ## fire each alert rule, by series and by real services in which faults are made (needs promtool)
	cargo build --locked --bins
	$(with_pg_bin) && PROMTOOL="$$(scripts/promtool)" && export PROMTOOL && scripts/with-own-tmp cargo test --locked --test alerts

console-test: ## time each question of an operator beside 10 million finished and 100,000 waiting events (8 GB of disk)
	@$(with_pg_bin) && exec scripts/console-test

page-test: rust ## look at the ops page with a real browser, and make the screenshots of the README (needs Node and Chromium)
	cargo build --locked --bins
	@exec tests/browser/run

sdk-test: rust ## test the programs with the official Python SDK (needs Python, and the network the first time)
	cargo build --locked --bins
	cargo build --locked --example stream_messages
	@exec tests/sdk/run

proxy-test: rust ## send deliveries through a real nginx for four minutes, and expect none to be lost (needs nginx and Python)
	cargo build --locked --bins
	@exec tests/proxy/run

compose-test: ## build the image, and run docker-compose.yml through kills and a renewal of ingest (needs a container engine, or root)
	@exec tests/compose/with-engine tests/compose/run

package-test: rust ## install the services from the packaged crate in an empty folder, and the hand tool by its path
	@exec scripts/package-test

fences: rust ## remove each fence in turn, and expect a test to fail
	@scripts/fences

build: rust ## build the three programs, optimised
	cargo build --locked --release --bins

release: rust ## make static programs, the packaged crate, an SBOM and checksums in target/release-files (needs rustup, Python, the network)
	@exec scripts/release

docs: rust ## build the book in target/book (mdbook is installed if it is missing)
	@exec scripts/docs

# Installs the peers on demand, below target/bench and benches/peers. ONLY=drain,ingest or PEERS=0 measures a part.
bench: rust ## measure Restante and its peers; QUICK=1 takes 3 minutes, FULL=1 has 10 million rows
	cargo build --locked --release --bins --target-dir target/bench
	cargo build --locked --release --package restante-bench --target-dir target/bench
	@$(with_pg_bin) && exec target/bench/release/restante-bench run $(if $(QUICK),--quick) $(if $(FULL),--full) \
		$(if $(filter 0,$(PEERS)),--no-peers) $(if $(ONLY),--only $(ONLY))

prepare: rust ## rewrite sqlx-data.json, after a change of a query or a migration
	@scripts/sqlx-data

prepare-check: rust ## fail if sqlx-data.json is not what `make prepare` would write
	@scripts/sqlx-data --check

deny: rust ## check licences, sources and advisories of the dependencies (advisories need the network)
	@command -v cargo-deny >/dev/null || { echo 'cargo-deny is missing: cargo install --locked cargo-deny' >&2; exit 1; }
	cargo deny --all-features check

rust:
	@scripts/rust-check
