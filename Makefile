# The commands of the project; `make` alone lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Real survey data for tests and benchmarks; without it the tests that need it are skipped.
ifneq ($(wildcard $(CURDIR)/../shared/data),)
export RAYDISTILL_DATA ?= $(abspath $(CURDIR)/../shared/data)
endif
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true

# From Python 3.12 coverage reads sys.monitoring at almost no cost; on 3.11 it adds two thirds to the fast tests.
NEW_PYTHON = $$($(BIN)/python -c 'import sys; print("$(1)" if sys.version_info >= (3, 12) else "$(2)")')

SHELL := bash
.SHELLFLAGS := -o pipefail -c
PIP = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
# One line for a package that pip collects, and one for the last minute, in which pip says nothing.
SHOW_STEPS = awk '/^(Collecting|Processing) / { sub(/.*\//, "", $$2); printf "  %3d %s\n", ++n, $$2 } /^Installing/ { print "  unpacking them: about a minute" } { fflush() }'

.PHONY: help setup demo demo-diffusion demo-hunt demo-similar claims verify paper check coverage test test-all lint type contracts unit fast slow long mutants gpu docs bench ui clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: .venv/.ready ## create .venv and install the locked packages, once

# The stamp is newer than the lock and the project file, so nothing is installed again until one of them changes.
.venv/.ready: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v < (3, 14) and f"raydistill needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}; try make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing $$(grep -c == requirements.lock) packages into .venv: 2 GB, two to five minutes, longer if the network is slow."
	@PYTHONUNBUFFERED=1 $(PIP) -r requirements.lock | $(SHOW_STEPS)
	@$(PIP) --quiet --no-deps --editable .
	@touch $@

demo: setup ## run all stages on a small simulated survey, five minutes on two cores
	@$(BIN)/raydistill demo

demo-diffusion: setup ## train a generator of galaxies, sample it and audit the samples, six minutes on two cores
	@$(BIN)/raydistill run demo_diffusion --to audit

demo-hunt: setup ## find rare galaxies in a simulated survey with a scripted labeller, three minutes on two cores
	@$(BIN)/raydistill run demo_hunt --to hunt

demo-similar: setup ## train an encoder on a simulated survey, find similar galaxies and distil prototypes for it, four minutes on two cores
	@$(BIN)/raydistill run demo_similar --to similar
	@$(BIN)/raydistill run demo_similar

claims: setup ## try the claim of every paper in a small form, and write docs/claims.md; an hour on two cores
	@$(BIN)/python benchmarks/claims.py

verify: setup ## evaluate every released set whose survey is at hand, and compare it with its card
	@$(BIN)/raydistill verify all

paper: setup ## repeat the experiment of the first paper; MINUTES=10 stops after ten minutes, and the next `make paper` goes on
	@$(BIN)/python benchmarks/paper.py $(if $(MINUTES),--minutes $(MINUTES))

check: setup ## lint, types, import contracts and fast tests at once; run it before every commit
	@$(MAKE) --no-print-directory -j 4 COVERAGE="$(COVERAGE)" lint type contracts unit

coverage: COVERAGE = --cov
coverage: unit ## run the fast tests and print the lines that they do not run

test: COVERAGE = $(call NEW_PYTHON,--cov,)
test: check slow ## check (with coverage from Python 3.12), plus tests with Ray, MLflow and the command line, ten minutes on two cores

test-all: COVERAGE = --cov
test-all: check slow long mutants ## test, plus the long fault and cluster tests, and changes of core modules

lint: setup ## check style, formatting and the language of docs and docstrings
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python dev/lint_language.py

type: setup ## check static types
	@$(BIN)/mypy

contracts: setup ## check the dependency direction of the packages
	@$(BIN)/lint-imports

unit: setup ## run the fast tests: no Ray, no server
	@COVERAGE_CORE=$(call NEW_PYTHON,sysmon,ctrace) $(BIN)/pytest -q -n 3 --dist worksteal \
		-m "not slow" $(COVERAGE) tests/test_*.py tests/unit tests/property

fast: unit ## the same as unit

slow: setup ## run the tests with Ray, MLflow, faults and the command line
	@$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "slow and not long" \
		tests/test_docs.py tests/e2e tests/ray tests/gpu $$(grep -rl --include='test_*.py' mark.slow tests/unit tests/property)

long: setup ## run the long tests of docs/reliability.md
	@$(BIN)/pytest -q -m long tests

mutants: setup ## change operators of core modules; each change must fail a test
	@$(BIN)/python dev/mutate.py

gpu: setup ## run the tests and the benchmark for a GPU and print what they measured; without a GPU they are skipped
	@$(BIN)/pytest -v -s -m "not long" tests/gpu
	@$(BIN)/python benchmarks/gpu.py

docs: setup ## build the documentation site into build/docs; warnings are errors
	@$(BIN)/python -m sphinx -E -W --keep-going -q -b html docs build/docs
	@echo "open build/docs/index.html"

bench: setup ## measure speed and memory as ratios, about eight minutes; writes benchmarks/results/latest.json
	@$(BIN)/python benchmarks/bench.py

ui: setup ## show the demo run in MLflow
	@echo "open http://127.0.0.1:5000/#/experiments/1?workflowType=machine_learning"
	@$(BIN)/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///$(CURDIR)/runs/demo/mlflow.db

clean: ## delete runs/; the environment stays
	rm -rf runs
