# The two to begin with: `make demo` and `make test`. Both set up `.venv` first.

# The version that is tested comes first; every other one from 3.11 on is tried after it.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test sim lint docs chaos

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/installed ## Install everything into .venv; quick when nothing has changed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "expected Python 3.11 or later, got $$($(PYTHON) --version): install it, or run make with PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { \
	  rm -rf .venv; echo "expected Python's venv module: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@echo "installing into .venv (about a minute at the first time)"
	@# The build backend is installed like everything else, so that its version is pinned too.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev,test]'
	@touch $@

demo: setup ## Start the stack, watch a conversation with tool calls, then talk yourself
	@$(BIN)/headrace demo

dev: setup ## Run the stack until Ctrl-C; its data stays
	@$(BIN)/headrace dev

# Three files at a time, also on two cores: most of the time passes while servers start, stop and are waited for.
test: setup lint ## Everything that must pass
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 15

sim: setup ## Simulate: SEEDS=10000 runs, or SEED=7 shown step by step
	@PYTHONPATH=tests:. $(BIN)/python -m simulation --seeds $(or $(SEEDS),1000) --first $(or $(FIRST_SEED),0) \
	  $(if $(SEED),--seed $(SEED)) $(if $(STEPS),--steps $(STEPS)) $(if $(WITHOUT),--without '$(WITHOUT)')

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/python docs/generate.py --check

docs: setup ## Write the generated documents and the generated parts of README.md
	$(BIN)/python docs/generate.py

# ROUNDS=3 runs all of it three times; ONLY="kill -9" runs the scenarios whose name has this in it.
ROUNDS ?= 1
ONLY ?=
chaos: setup ## Kill, pause and cut off everything while people write, and print a table
	PYTHONPATH=tests:. $(BIN)/python -m chaos --rounds $(ROUNDS) --only "$(ONLY)"
