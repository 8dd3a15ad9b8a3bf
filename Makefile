# From a bare machine with Python 3.11, pip and make:
#   make demo    environment, small model, compile, score, optimize, score again
#   make test    lint and every test, those on the real model and on a real SGLang server included
#   make corpus  unpack the texts that programs search, for other tools (programs read the packed files)
PYTHON ?= python3.11
MODEL ?= smollm2-135m
PYTEST_FLAGS ?=
DEMO_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Threads of torch that wait must sleep: two processes that spin on the same cores slow each other down many times.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0
export TOKENIZERS_PARALLELISM := false

.DELETE_ON_ERROR:
.PHONY: help venv model demo test test-sglang lint bench corpus clean

help:
	@sed -n 's/^#   //p' Makefile
	@echo "also: venv model lint test-sglang bench clean"

venv: $(INSTALLED) model

# torch comes first and alone: later steps then find a torch that suits them and fetch no other.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install torch==2.13.0
	$(BIN)/python -m pip install -c constraints.txt hatchling editables
	$(BIN)/python -m pip install -c constraints.txt --no-build-isolation -e ".[local,sglang,openai,optimize,programs,dev]"
	touch $@

# Done at once where the model is there already.
model: $(INSTALLED)
	$(BIN)/lmgraph model pull $(MODEL)

demo: venv
	$(BIN)/python programs/demo.py $(DEMO_FLAGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# The run on a server comes first, so that the last line is the whole suite's.
test: venv lint test-sglang
	$(BIN)/python -m pytest --ignore-glob='tests/model/test_sglang_*' $(PYTEST_FLAGS)

# A run of its own, since a server beside other tests would starve. The first one makes SGLang's environment, 3 GB in
# lmgraph's folder; where that cannot be, it says so.
test-sglang: venv
	LMGRAPH_TEST_SGLANG=start OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:xdist tests/model/test_sglang_*.py

corpus:
	$(PYTHON) programs/hover/corpus/unpack.py

bench: venv
	set -e; for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script; done

# Leaves the environment and the models: remove .venv by hand to start from nothing.
clean:
	rm -rf .lmgraph dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path './.git/*' -prune -exec rm -rf {} +
