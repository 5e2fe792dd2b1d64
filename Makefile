# The same targets serve people, pre-commit and CI. Everything lives in .venv; nothing is installed by hand.
PYTHON ?= python3
VENV ?= .venv
# Exact versions, so that an install repeats; empty takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
INSTALL = -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
BIN := $(VENV)/bin
CLIP ?= src/nanoemox/assets/sample.mp4
PYTEST_FLAGS ?=
# What the benchmarks measure: names or directories, with commas between; FULL a directory of full size.
MODEL ?= mini
FULL ?=
# One process a core (four at most: each takes half a gigabyte), one thread each. A file of tests stays together, so
# that what it shares is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: help install dev lint types test test-all test-gpu test-latest test-oldest lock wheel demo bench bench-gpu docs mini clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.core: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python $(INSTALL) --editable '.[all,dev]'
	@touch $@

install: $(VENV)/.core  ## environment with what the package needs
dev: $(VENV)/.dev  ## environment with what the tests need too

demo: install  ## pull small once, then six answers for the sample clip, or CLIP=path
	@$(BIN)/nanoemox pull small > /dev/null || echo "small cannot be pulled here: mini answers instead" >&2
	@$(BIN)/nanoemox answer '$(CLIP)'

lint: dev  ## ruff, format check, spelling, workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md docs src tests tools benchmarks examples
	$(BIN)/zizmor --quiet --offline .github

types: dev  ## mypy, strict on src
	$(BIN)/mypy

test: lint types  ## lint, types and every quick test: what CI runs
	$(PYTEST) -m "not slow and not gpu" $(PYTEST_FLAGS)

test-all: lint types  ## all tests, the slow ones included
	$(PYTEST) -m "not gpu" $(PYTEST_FLAGS)

test-gpu: dev  ## the tests that need a CUDA device
	$(PYTEST) -m gpu $(PYTEST_FLAGS)

test-latest:  ## make test on the newest versions that the ranges allow
	$(MAKE) test VENV=.venv-latest CONSTRAINTS=

test-oldest:  ## make test on the oldest versions
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

lock:  ## write constraints.txt: the newest versions that the ranges allow today
	rm -rf .lock
	$(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet '.[all,dev]'
	.lock/bin/python -m pip list --format=freeze --exclude nanoemox --exclude pip --exclude setuptools \
		| sed 's/+.*//' | LC_ALL=C sort > constraints.txt
	rm -rf .lock

wheel: dev  ## build dist/ and let the wheel answer in a bare environment
	rm -rf dist .bare
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv .bare
	.bare/bin/python $(INSTALL) dist/*.whl
	cd .bare && bin/nanoemox answer "$$(bin/python -c \
		'from importlib.resources import files; print(files("nanoemox") / "assets" / "sample.mp4")')"
	rm -rf .bare

bench: install  ## speed and memory of this machine
	$(BIN)/python benchmarks/media.py
	$(BIN)/python benchmarks/run_all.py --models '$(MODEL)' --out bench.json

bench-gpu: install  ## the same on CUDA, into bench-gpu.json: make bench-gpu MODEL=mini,small FULL=DIR
	$(BIN)/python benchmarks/run_all.py --device cuda --limit 300 --models '$(MODEL)' $(if $(FULL),--full '$(FULL)') --out bench-gpu.json

docs: dev  ## the documentation as a site, in site/: links checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

mini: dev  ## retrain the embedded model: make mini DATA=path/to/data OUT=runs/mini
	$(BIN)/python -m tools.mini.build --data-root '$(DATA)' --out '$(OUT)'

clean:  ## remove the environment and caches
	rm -rf .venv* .lock .bare dist .mypy_cache .ruff_cache .pytest_cache
