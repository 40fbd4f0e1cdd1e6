# What people type. Everything here works on a fresh machine with Rust and, for
# the tests, either root or the packages that tests/setup names.

.PHONY: help build demo test bench lint setup

help:
	@echo "make demo    a throwaway PostgreSQL, archived, backed up, destroyed, restored to a point in time"
	@echo "make test    install what the tests need, lint, and run every test"
	@echo "make bench   measure each operation against every peer that is found"
	@echo "make build   the release binary, target/release/walport"
	@echo "make lint    format, clippy, and the rules of the house"

build:
	cargo build --release --locked -p walport

demo: build
	tests/setup postgresql
	demo/demo.sh target/release/walport

setup:
	tests/setup

test: setup lint
	cargo build --locked -p walport
	cargo test --locked --workspace --no-fail-fast
	.ci/examples

bench: build
	bench/run $(BENCH)

lint:
	.ci/lint
