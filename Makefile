# Everything a newcomer types: `make demo`, `make test`. Each target makes the virtual environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install demo run test test-faults check format generate bench bench-peers images \
        test-images check-kubernetes lock clean

help: ## Shows this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Makes the virtual environment

# pip checks every download against the hashes of the lock; the project itself is installed in place.
$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "errata needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "making $(VENV) (about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(VENV)/.installed ## Learns from real logs and answers questions, in under two minutes
	@python -m scripts.demo

run: $(VENV)/.installed ## Keeps both services running on ./.errata
	@python -m scripts.run

# Two at a time, because most of the slow ones wait for processes.
test: $(VENV)/.installed ## Runs the tests, fast ones first
	@pytest -m "not slow and not soak and not images" -n 2
	@pytest -m "slow and not soak and not images" -n 2

test-faults: $(VENV)/.installed ## Runs the long fault and soak tests
	@pytest -m soak

check: $(VENV)/.installed ## Format, lint, types, import rules, contract, and drift of the generated stubs
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports
	@scripts/check-contract

format: $(VENV)/.installed ## Formats Python, Go and proto files
	@ruff format .
	@ruff check --fix-only .
	@buf format -w
	@if command -v gofmt >/dev/null; then gofmt -w clients/go; fi

generate: $(VENV)/.installed ## Writes the Python and Go stubs from protos/
	@scripts/generate

bench: $(VENV)/.installed ## Measures: retrieval quality and latency
	@python -m bench.quality
	@python -m bench.freshness

# An environment of its own: what is compared weighs more than a GB. One run a size, each a few minutes.
PEERS_VENV := .venv-bench
bench-peers: $(PEERS_VENV)/.installed ## Compares search with other systems (1 GB to install, half an hour)
	@$(PEERS_VENV)/bin/python -W ignore -m bench.search_peers --rows 1000 10000 100000
	@$(PEERS_VENV)/bin/python -W ignore -m bench.search_peers --rows 100000 --dimension 1536 --data real
	@$(PEERS_VENV)/bin/python -W ignore -m bench.search_peers --rows 1000000 --data real \
	  --peers errata errata-grpc numpy float64 faiss

$(PEERS_VENV)/.installed: requirements/bench.txt
	@$(PYTHON) -m venv $(PEERS_VENV)
	@$(PEERS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

images: ## Builds both container images (needs buildah)
	@scripts/build-images

test-images: $(VENV)/.installed ## Runs the built images together (needs podman and Go)
	@command -v podman >/dev/null || { echo "this needs podman: apt-get install podman runc" >&2; exit 1; }
	@command -v go >/dev/null || { echo "this needs Go, for grpcurl and the Go client: see https://go.dev/dl" >&2; exit 1; }
	@podman image exists localhost/errata-learner && podman image exists localhost/errata-rag \
	  || { echo "there are no images to test: make images" >&2; exit 1; }
	@pytest -m images tests/images

check-kubernetes: ## Checks deploy/kubernetes as a cluster would (needs Go)
	@command -v go >/dev/null || { echo "this needs Go: see https://go.dev/dl" >&2; exit 1; }
	@cd tests/deploy/kubernetes && go vet ./... && go test -count=1 ./...

# The images install what the tests ran with: their locks take the versions of dev.txt.
LOCK := uv pip compile --generate-hashes --universal --python-version 3.11 --no-header --no-annotate --quiet
lock: ## Pins every dependency anew, with hashes (needs uv)
	$(LOCK) --upgrade --extra server --extra cli --group dev --output-file requirements/dev.txt pyproject.toml
	$(LOCK) --constraint requirements/dev.txt --extra learner --output-file requirements/learner.txt pyproject.toml
	$(LOCK) --constraint requirements/dev.txt --extra rag --output-file requirements/rag.txt pyproject.toml
	$(LOCK) --constraint requirements/dev.txt --group pyproject.toml:build --output-file requirements/build.txt
	$(LOCK) --constraint requirements/dev.txt --extra server --group bench --output-file requirements/bench.txt pyproject.toml

clean: ## Removes the virtual environment and caches; keeps ./.errata
	rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
