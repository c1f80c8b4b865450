# `make demo` runs the mesh, `make test` tests it; each sets up what it needs, alone and in any order.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test test-e2e check format test-api test-compiled test-conformance test-faults test-changes test-storm soak test-gateway bench cluster cluster-down test-cluster test-rollouts test-outage fuzz lock clean

help: ## what this file can do
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(STAMP) ## the virtual environment and the system packages

$(STAMP): requirements/dev.lock requirements/build.lock pyproject.toml deploy/setup.sh
	@deploy/setup.sh $(VENV)
	@touch $@

demo: $(STAMP) ## run the mesh on this machine, without a cluster (ONCE=1: clean up and exit)
	@$(BIN)/mesh demo $(if $(ONCE),--once)

test: $(STAMP) ## all tests that need no real Kubernetes (under 10 minutes)
	@deploy/setup.sh --test-tools
	@$(BIN)/pytest -m "not cluster and not node and not conformance and not faults and not long"

test-e2e: $(STAMP) ## workloads, rollouts, outages, upgrades on the embedded cluster (15 minutes)
	@deploy/setup.sh --test-tools
	@$(BIN)/pytest --durations 10 -m "long and not node" tests/e2e

check: $(STAMP) ## format, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(STAMP) ## rewrite the sources as `make check` wants them
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

test-api: $(STAMP) ## against a real kube-apiserver, built once from its Go module
	@deploy/setup.sh --test-tools
	@$(BIN)/python -m tests.cluster.build >/dev/null
	@kubectl=$$($(BIN)/python -m tests.cluster.tools) && \
	  PATH=$${kubectl:+$$kubectl:}$$PATH $(BIN)/pytest -m cluster --timeout 2700 tests

test-compiled: $(STAMP) ## the tests of the data path on what the wheel has, compiled
	@deploy/setup.sh --test-tools
	@packages=$$($(BIN)/python -m tests.support.compiled) && PYTHONSAFEPATH=1 \
	  PYTHONPATH=$$packages:. $(BIN)/pytest --import-mode=append -m "not conformance and not long" tests/proxy tests/fuzz

test-conformance: $(STAMP) ## h2spec, gRPC's interop suite, slowhttptest, messages before Go (needs Go)
	@deploy/setup.sh --conformance-tools
	@$(BIN)/python -m tests.conformance.build >/dev/null
	@$(BIN)/pytest -m conformance --timeout 300 tests/conformance

test-faults: $(STAMP) ## toxiproxy between the hops: right status, in time, nothing hung (needs Go)
	@$(BIN)/python -m tests.faults.build >/dev/null
	@$(BIN)/pytest -m faults tests/faults

test-changes: $(STAMP) ## 1,000 configurations, 50 drains, 200 leaves and 20 kills under load (5 minutes)
	@MESH_SWAPS=1000 MESH_DRAINS=50 MESH_RENEWALS=200 MESH_KILLS=20 \
	  $(BIN)/pytest tests/proxy/test_changes.py

test-storm: $(STAMP) ## 40 s of failures through three tiers: how much do retries add?
	@$(BIN)/pytest -s -m long tests/proxy/test_storm.py

soak: $(STAMP) ## mixed load through two proxies: does memory, do descriptors grow? (MINUTES=30)
	@$(BIN)/python -m tests.soak $(MINUTES)

cluster: $(STAMP) ## one whole Kubernetes node on this machine, from Go modules and Debian packages
	@deploy/setup.sh --cluster-tools
	@$(BIN)/python -m tests.cluster up

cluster-down: $(STAMP) ## take the node away without a trace
	@$(BIN)/python -m tests.cluster down

test-cluster: $(STAMP) ## the end-to-end tests on a whole Kubernetes node (SHORT=1: less)
	@deploy/setup.sh --cluster-tools
	@$(BIN)/python -m tests.cluster parts
	@MESH_E2E_ON=node $(BIN)/pytest --durations 10 --timeout 900 $(if $(SHORT),-m "not long") \
	  tests/e2e tests/cluster/node

test-gateway: $(STAMP) ## the Gateway API's conformance suite for meshes on such a node (needs Go)
	@deploy/setup.sh --cluster-tools
	@$(BIN)/python -m tests.conformance.gateway_suite >/dev/null
	@MESH_E2E_ON=node $(BIN)/pytest tests/conformance/test_gateway.py

test-rollouts: $(STAMP) ## 50 rolling restarts of two services under load on such a node (15 minutes)
	@deploy/setup.sh --cluster-tools
	@MESH_E2E_ON=node MESH_E2E_ROLLOUTS=50 $(BIN)/pytest tests/e2e/test_rollouts.py

test-outage: $(STAMP) ## ten minutes without a control plane under load on such a node
	@deploy/setup.sh --cluster-tools
	@MESH_E2E_ON=node MESH_E2E_OUTAGE=600 $(BIN)/pytest tests/e2e/test_outages.py

SECONDS_EACH ?= 600
fuzz: $(STAMP) ## fuzz every parser of outside bytes (10 minutes each; SECONDS_EACH=60: less)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes \
	  -r requirements/fuzz.lock || echo "atheris does not install here: inputs are made blindly"
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS_EACH)

bench: $(STAMP) ## the data path against nginx, HAProxy and Envoy (SHORT=1: only that it works)
	@deploy/setup.sh --bench-tools
	@$(BIN)/python -m tests.bench $(if $(SHORT),--short)

LOCK := uv pip compile --quiet --generate-hashes --python-version 3.11 --universal --no-header --no-annotate
lock: ## choose and hash the newest dependencies again (needs uv)
	$(LOCK) requirements/build.in -o requirements/build.lock
	$(LOCK) pyproject.toml --extra init -o requirements/image.lock
	$(LOCK) pyproject.toml --extra init --group dev -o requirements/dev.lock

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
