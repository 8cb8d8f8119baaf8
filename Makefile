# Everything a person runs, by name. `make` alone lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Real survey data for tests and benchmarks; where it is missing, what needs it says so and skips.
ifneq ($(wildcard $(CURDIR)/../shared/data),)
export RAYDISTILL_DATA ?= $(abspath $(CURDIR)/../shared/data)
endif
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: bench help setup demo test test-all check lint type contracts fast unit slow long docs ui clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: .venv/.ready ## create .venv and install what is locked (once)

# The stamp holds the digest of what was installed: nothing is installed again until the lock or the project file changes.
.venv/.ready: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v < (3, 14) and f"raydistill wants Python 3.11 to 3.13, this is {v[0]}.{v[1]}; try make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (about 2 GB, a minute or two)..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: setup ## the whole chain on a small simulated survey, about five minutes on two cores
	@$(BIN)/raydistill demo

test: check slow ## lint, types, import contracts and tests, a quarter of an hour on two cores
test-all: check slow long ## the same, and what takes long: faults, clusters, second ways to the same bits

check: lint type contracts unit ## lint, types, contracts and the fast tests: run it before every commit

lint: setup ## style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

type: setup ## static types
	@$(BIN)/mypy

contracts: setup ## who may import whom
	@$(BIN)/lint-imports

fast: unit ## the fast tests alone

unit: setup ## tests that need no Ray and no server
	@$(BIN)/pytest -q -m "not slow" tests

slow: setup ## tests on real Ray, real MLflow, faults, end to end
	@$(BIN)/pytest -q -m "slow and not long" tests/unit tests/property tests/test_docs.py
	@$(BIN)/pytest -q -m "slow and not long" tests/ray tests/e2e tests/gpu

long: setup ## the long tests alone, of which docs/reliability.md tells
	@$(BIN)/pytest -q -m long tests

docs: setup ## build the documentation site into build/docs, offline; warnings are errors
	@$(BIN)/python -m sphinx -E -W --keep-going -q -b html docs build/docs
	@echo "open build/docs/index.html"

bench: setup ## speed and memory as ratios, in under ten minutes; writes benchmarks/results/latest.json
	@$(BIN)/python benchmarks/bench.py

ui: setup ## MLflow's pages of the demo run, on http://127.0.0.1:5000
	@$(BIN)/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///$(CURDIR)/runs/demo/mlflow.db

clean: ## remove runs/ (the environment stays)
	rm -rf runs
