# The same targets serve people, pre-commit and CI. Everything lives in .venv; nothing is installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIP ?= src/nanoemox/assets/sample.mp4
PYTEST_FLAGS ?=
# One process a core (four at most: each takes half a gigabyte), one thread each. A file of tests stays together, so
# that what it shares is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: help install dev lint types test test-all demo bench mini clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

install: $(VENV)/.core  ## environment with what the package needs
dev: $(VENV)/.dev  ## environment with what the tests need too

demo: install  ## six answers for the sample clip, or CLIP=path; fetches the model `small` where it can
	@$(BIN)/nanoemox pull small || echo 'nanoemox: small cannot be pulled, so mini answers' >&2
	@$(BIN)/nanoemox answer '$(CLIP)'

lint: dev  ## ruff, format check, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md docs src tests tools benchmarks examples

types: dev  ## mypy, strict on src
	$(BIN)/mypy

test: lint types  ## lint, types and every quick test: what CI runs
	$(PYTEST) -m "not slow and not gpu" $(PYTEST_FLAGS)

test-all: lint types  ## all tests, the slow ones included
	$(PYTEST) -m "not gpu" $(PYTEST_FLAGS)

bench: install  ## speed and memory of this machine
	$(BIN)/python benchmarks/media.py
	$(BIN)/python benchmarks/answer.py

mini: dev  ## retrain the embedded model: make mini DATA=path/to/data OUT=runs/mini
	$(BIN)/python -m tools.mini.build --data-root '$(DATA)' --out '$(OUT)'

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
