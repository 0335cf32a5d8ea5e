# figkd-pipeline. `make help` lists what there is. Every target sets up .venv itself.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that really runs and is 3.11 to 3.14 (version managers leave shims that do not).
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3.14 python3; do \
	$$p -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1 && { echo $$p; break; }; done)
CONFIG ?= deploy_configs/fonts_cpu.yaml
ARGS ?=
OUT ?= runs/gpu_check
MINUTES ?= 8

.PHONY: help setup pipeline plan ship doctor test test-slow lint format bench gpu-check matrix docs site clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "make ends with 2 whatever fails, and prints the command's exit code as 'Error N';"
	@echo "only figkd-pipeline itself ends with its documented codes: $(BIN)/figkd-pipeline run CONFIG"

# Made again when what it was made from changes.
$(VENV)/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 to 3.14 is needed and was not found" >&2; \
		echo "  fix: install it, or say where it is: make PYTHON=/path/to/python3.12 ..." >&2; exit 4; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version) (downloads several GB the first time)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)  # also a half-made one
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[rtx,dev]'
	@touch $@

setup: $(VENV)/.ready ## create .venv and install everything

pipeline: $(VENV)/.ready ## run a deploy config: make pipeline CONFIG=deploy_configs/fonts_cpu.yaml [ARGS="--set ..."]
	@$(BIN)/figkd-pipeline run $(CONFIG) $(ARGS)

plan: $(VENV)/.ready ## show what `make pipeline` would do
	@$(BIN)/figkd-pipeline plan $(CONFIG) $(ARGS)

ship: $(VENV)/.ready ## install what CONFIG ships on devices: make ship CONFIG=... DEVICES="orin ssh://cam1" [ARGS="--canary"]
	@$(BIN)/figkd-pipeline ship $(CONFIG) $(DEVICES) $(ARGS)

doctor: $(VENV)/.ready ## look at this machine, and at what CONFIG needs of it
	@$(BIN)/figkd-pipeline doctor $(CONFIG) $(ARGS)

# Workers of pytest take whole files, in the order of tests/conftest.py, and compiled modules are kept.
PYTEST := OMP_WAIT_POLICY=PASSIVE PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest \
	-n logical --dist loadfile --no-loadscope-reorder

test: $(VENV)/.ready ## run the tests, by up to four processes (no GPU needed)
	@$(PYTEST) $(ARGS)

test-slow: $(VENV)/.ready ## run the tests that take minutes
	@$(PYTEST) -m slow $(ARGS)

lint: $(VENV)/.ready ## ruff and mypy --strict
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(VENV)/.ready ## format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: $(VENV)/.ready ## run the benchmarks; results go to benchmarks/results/
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done
	@$(BIN)/python benchmarks/tables.py

gpu-check: $(VENV)/.ready ## check on a GPU what cannot be checked without one; results go to $(OUT)
	@$(BIN)/python benchmarks/gpu_check.py --out $(OUT) --minutes $(MINUTES) $(ARGS)

matrix: $(VENV)/.ready ## every student through export, precisions and engines (long): the table of docs/students.md
	@$(BIN)/python benchmarks/matrix/matrix.py $(ARGS)

docs: $(VENV)/.ready ## write the generated reference and the editors' schema again
	@$(BIN)/python -m pipeline.docs

# Pages that are not in the navigation, and links or anchors that lead nowhere, are errors; with --quiet MkDocs does not
# count them. The browser downloads nothing.
site: $(VENV)/.site ## build the documentation as a site: build/site/index.html, to be read offline
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build && echo "build/site/index.html"

$(VENV)/.site: $(VENV)/.ready
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[site]'
	@touch $@

clean: ## remove .venv, the store and caches; runs/ stays, you may have put something there
	@rm -rf $(VENV) .figkd .mypy_cache .ruff_cache .pytest_cache build *.egg-info
