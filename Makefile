# Every recipe that CI or a reader needs. A fresh machine wants only Python 3.11 or newer, git and make.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

PYTHON ?= python3
UV := $(or $(shell command -v uv),.tools/bin/uv)
READY := .venv/.ready
RUN := PYTHONPATH=examples $(UV) run --no-sync
ARGS ?=
JOBS ?= 3
MATRIX ?= 3.12 3.13 3.14
REPORTS ?= data/reports.duckdb
FULFIL ?= 1

.PHONY: help setup run import test test-matrix check surface format bench soak peers build docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Install uv if it is absent, and all that the project needs, into .venv

run: $(READY) ## Serve the Orders example; HOST, PORT, DATABASE_URL, REPORTS, FULFIL and SIMULATE=1 configure it
	REPORTS="$(REPORTS)" FULFIL="$(FULFIL)" $(RUN) python -m orders serve

import: $(READY) ## Replay a file of real orders through the example: make import FILE=path
	@test -n "$(FILE)" || { echo "say which file: make import FILE=path/to/online_retail.csv" >&2; exit 2; }
	$(RUN) python -m orders import "$(FILE)"

test: $(READY) ## Run all tests but the campaigns at full length, JOBS files at a time; ARGS go to pytest
	$(RUN) pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-matrix: $(READY) ## Run the tests on the other supported Pythons that this machine has, and with the lowest versions of what we need
	@for version in $(MATRIX); do \
		PATH="$$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin 2>/dev/null | tail -1):$$PATH"; \
		if $(UV) python find --no-python-downloads $$version >/dev/null 2>&1; then \
			echo "== Python $$version"; \
			UV_PROJECT_ENVIRONMENT=.cache/python-$$version PYTHONPATH=examples \
				$(UV) run --frozen --all-extras --python $$version pytest $(ARGS) || exit 1; \
		else \
			echo "== Python $$version skipped: not on this machine (uv python install $$version)"; \
		fi; \
	done
	@echo "== the lowest versions that pyproject.toml declares"
	@$(UV) pip compile -q --resolution lowest-direct --all-extras pyproject.toml -o .cache/lowest.txt
	@$(UV) venv -q --clear .cache/lowest
	@$(UV) pip install -q --python .cache/lowest/bin/python --constraints .cache/lowest.txt --group dev --all-extras -r pyproject.toml -e .
	@PYTHONPATH=examples .cache/lowest/bin/python -m pytest $(ARGS)

check: $(READY) ## Check format, lint, types, the public API and the direction of imports
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) basedpyright
	$(RUN) lint-imports --no-logo

surface: $(READY) ## Write down the public surface and what is refused, after a change on purpose
	$(RUN) python -m tests.docs.surface
	$(RUN) python -m tests.docs.refusals
	$(RUN) python -m tests.docs.codes
	$(RUN) python -m tests.docs.checks
	$(RUN) python -m tests.docs.errors
	$(RUN) python -m tests.docs.metrics
	$(RUN) python -m tests.docs.agents

format: $(READY) ## Format the code and apply the safe fixes of the linter
	$(RUN) ruff format
	$(RUN) ruff check --fix

bench: $(READY) ## Measure against raw drivers and peers, and write the page of it; a part: make bench ARGS="append load --against HEAD~1"
	@$(RUN) python -m bench $(or $(ARGS),--write)

soak: $(READY) ## Run the campaigns at full length (hours)
	$(RUN) pytest -m soak $(ARGS)

peers: $(READY) ## Run the page on DBOS and FastStream, with both and a NATS server, in an environment of its own
	UV_PROJECT_ENVIRONMENT=.cache/peers $(UV) run --frozen --all-extras --group peers pytest -q tests/docs/test_pages.py \
		-k "use-with-dbos-or-faststream" $(ARGS)

build: $(READY) ## Build the sdist and the wheel into dist/, once an empty environment has shown that they work
	$(RUN) pytest -q tests/package
	rm -rf dist
	$(UV) build

docs: $(READY) ## Build the documentation of this version into site/, beside the earlier versions that are there
	UV_PROJECT_ENVIRONMENT=.cache/docs $(UV) run --frozen --only-group docs zensical build --strict
	$(RUN) python -m tests.docs.site

clean: ## Remove everything that these recipes made, except the data
	rm -rf .venv .tools .cache site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(READY): pyproject.toml uv.lock | $(UV)
	@$(UV) sync --frozen --all-extras >&2
	@touch $@

.tools/bin/uv:
	@$(PYTHON) -m venv .tools || { rm -rf .tools; printf '%s\n' \
		"make setup: $(PYTHON) could not create a virtual environment (the reason stands above)." \
		"  On Debian and Ubuntu:  apt install python3-venv" \
		"  or install uv itself:  https://docs.astral.sh/uv/getting-started/installation/" >&2; exit 1; }
	@.tools/bin/pip install --quiet --disable-pip-version-check uv
