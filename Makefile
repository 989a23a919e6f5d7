# Python that builds .venv, the port, and pip's own options can be set: make serve PYTHON=python3.12 PORT=9000
PYTHON ?= python3
PORT ?= 8000
HOST ?= 127.0.0.1
# Which drills: make drills PART=trusted, or overload
PART ?= trusted
# Processes that share the tests, each with one thread for the network: most tests wait for a service or a browser.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help serve check test test-dtype cov lint lint-page format typecheck audit docs bench drills soak clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(VENV)/.serve ## Run the service on the bundled models (HOST=127.0.0.1 PORT=8000)
	$(BIN)/agiqa serve --host $(HOST) --port $(PORT)

test: $(VENV)/.dev ## Run all tests
	$(PYTEST) $(ARGS)

# Which is that, tests.figures knows; DTYPE=float32 or DTYPE=bfloat16 chooses.
test-dtype: $(VENV)/.dev ## Run the tests that compare figures in the dtype that this machine does not choose
	TEST_AUTO_DTYPE=$(or $(DTYPE),$$($(BIN)/python -m tests.figures)) $(PYTEST) -m figures $(ARGS)

check: lint typecheck test test-dtype ## What CI runs, in its order

cov: $(VENV)/.dev ## Run all tests and hold the coverage of branches to its floor (pyproject.toml)
	$(PYTEST) --cov --cov-report=term:skip-covered $(ARGS)

lint: $(VENV)/.dev lint-page ## Check style, formatting and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

# The page's scripts have no build step, so Node.js is needed for this alone.
lint-page: ## Check types and style of the page's scripts (needs npm)
	@if command -v npm >/dev/null; then \
		cd tests/browser/lint && npm install --silent --no-audit --no-fund --no-package-lock && npm run --silent lint; \
	else echo "npm is not here: the page's scripts are not checked"; fi

format: $(VENV)/.dev ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(VENV)/.dev ## Check types
	$(BIN)/mypy

audit: $(VENV)/.dev ## Look up licences and known vulnerabilities of what is installed (needs PyPI)
	@PYTHON=$(BIN)/python .ci/audit

docs: $(VENV)/.dev ## Build the docs site into build/site
	PYTHONPATH=docs $(BIN)/zensical build --strict
	@echo "open build/site/index.html"

bench: $(VENV)/.dev ## Measure the figures of the README (minutes; see benchmarks/)
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.single
	$(BIN)/python -m benchmarks.share
	$(BIN)/python -m benchmarks.offline
	$(BIN)/python -m benchmarks.service
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.training

drills: $(VENV)/.dev ## Hold the service to its promises under faults and hostile uploads (PART=trusted, SHORT=1 as in CI)
	$(BIN)/python -m benchmarks.drills --part $(PART) $(if $(SHORT),--short) $(ARGS)

soak: $(VENV)/.dev ## Hold it to its memory under mixed load for ten minutes (SOAK=30m)
	SOAK=$(SOAK) $(BIN)/python -m benchmarks.drills --part soak $(ARGS)

clean: ## Remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info tests/browser/lint/node_modules

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "agiqa needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing agiqa into $(VENV) (torch is several GB; this takes some minutes the first time)"
	$(PIP) --constraint constraints.txt --editable '.[score]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing agiqa and its development tools into $(VENV)"
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.serve
