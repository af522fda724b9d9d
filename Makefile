# Every target makes .venv by itself, from pinned versions (constraints.txt), and starts at once the second time.
#   PYTHON=python3.12      the interpreter to make .venv with (3.11 or newer)
#   ARGS="--quick"         further arguments for `make reproduce`
#   PYTEST_ARGS="-k graph" further arguments for `make test`

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install reproduce test check bench docs clean
# Two targets that install at once would write into the same .venv.
.NOTPARALLEL:

PYTHON ?=
ARGS ?=
PYTEST_ARGS ?=
BIN := .venv/bin

help:
	@echo "make install     install the command: .venv/bin/layerlab"
	@echo "make reproduce   install, reproduce the course's results on Cora, write reproduce/report.html"
	@echo "make test        install, run the tests"
	@echo "make check       install, run the linter, the format check, the type checker, the audit; build the site"
	@echo "make bench       install, run every benchmark of benchmarks/"
	@echo "make docs        install, write docs/cli.md and the drawing anew, build the site in build/site"
	@echo "make clean       remove .venv and what the tools left"

# Brings .venv to the pinned versions. While it works, the file .venv-unfinished exists: a .venv whose
# installation was cut off is thrown away, since pip takes a half-copied package for a whole one.
# The two PIP_ names pin the build backend too: older pip reads the first for it, newer pip the second.
define install
@if [ -e .venv-unfinished ] || ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
    for python in $(PYTHON) python3.11 python3.12 python3.13 python3 none; do \
        if [ $$python = none ]; then \
            echo 'error: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3' >&2; \
            exit 1; \
        fi; \
        $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
        if [ $$python = '$(PYTHON)' ]; then \
            echo "error: PYTHON=$$python is not a working Python 3.11 or newer with venv; name another" >&2; \
            exit 1; \
        fi; \
    done; \
    echo "making .venv with $$python" >&2; \
    touch .venv-unfinished && $$python -m venv --clear .venv || exit 1; \
fi; \
echo 'installing the pinned packages into .venv (a minute or two the first time)' >&2; \
touch .venv-unfinished && \
PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
    $(BIN)/python -m pip install -qq -c constraints.txt -e '.$(EXTRAS)' && \
rm -f .venv-unfinished && touch $@ $(CONTAINS)
endef

.venv/installed: EXTRAS =
.venv/installed-test: EXTRAS = [test]
.venv/installed-test: CONTAINS = .venv/installed
.venv/installed-check: EXTRAS = [test,dev,docs]
.venv/installed-check: CONTAINS = .venv/installed .venv/installed-test .venv/installed-docs
.venv/installed-docs: EXTRAS = [test,docs]
.venv/installed-docs: CONTAINS = .venv/installed .venv/installed-test
.venv/installed-bench: EXTRAS = [test,bench]
.venv/installed-bench: CONTAINS = .venv/installed .venv/installed-test
.venv/installed .venv/installed-test .venv/installed-check .venv/installed-docs .venv/installed-bench: pyproject.toml constraints.txt
	$(install)

install: .venv/installed
	@echo 'the command: .venv/bin/layerlab (. .venv/bin/activate makes it layerlab)' >&2

# A failure is no reason to stop: what needs a kernel compiles it then.
.venv/compiled: .venv/installed
	@echo 'compiling the kernels for this machine (half a minute, once)' >&2
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/compile_kernels.py && touch $@ || true

reproduce: .venv/compiled
	$(BIN)/layerlab reproduce --out reproduce $(ARGS)

# One thread a worker: torch's own threads would fight with the other workers for the same cores. A file stays with
# one worker, which makes what its tests share (a built wheel, a trained model) once; tests/conftest.py orders the files.
test: .venv/installed-test
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: .venv/installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/audit.py constraints.txt
	$(site)

bench: .venv/installed-bench
	@found=0; for file in benchmarks/*.py; do \
	    [ -e "$$file" ] || continue; \
	    found=1; echo "$$file" >&2; \
	    $(BIN)/python "$$file" || exit 1; \
	done; \
	[ $$found = 1 ] || echo 'no benchmarks yet: benchmarks/README.md has the rules for the first one'

# Every page anew (-E), so that each warning is seen again, and a warning is an error (-W).
site = OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -E -W --keep-going -d build/site-doctrees -c docs/site -b html . build/site

docs: .venv/installed-docs
	$(BIN)/python scripts/build_cli_docs.py
	$(BIN)/python scripts/draw_architecture.py
	$(site)
	@echo 'the site: build/site/index.html' >&2

clean:
	rm -rf .venv .venv-unfinished .mypy_cache .ruff_cache .hypothesis build dist
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
