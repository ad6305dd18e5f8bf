# Two commands on a fresh machine: `make demo` and `make test`. Both create what they need and say what they do.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
N ?= 50
SEED ?= 1
DATA ?= ../shared/data
WORKERS ?= $(shell nproc)

.PHONY: help demo test check bench simulate lock schemas clean

help:
	@echo "make demo      a crash day, 1,000 accounts: calls, answers, kill, recovery, replay, verify (under a minute)"
	@echo "make test      all tests"
	@echo "make check     formatting, lint, types, import rules, purity, fast tests"
	@echo "make bench     benchmarks, JSON in bench-results/"
	@echo "make simulate  N kills of an ingest at random moments (N=$(N) SEED=$(SEED))"
	@echo "make schemas   write JSON Schema, samples and the event catalogue anew from the types"
	@echo "make lock      resolve the dependencies anew into requirements.lock"

$(VENV)/.ready: requirements.lock pyproject.toml
	@./.ci/setup $(VENV) $(PYTHON)
	@touch $@

demo: $(VENV)/.ready
	@$(BIN)/margin-stream demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

bench: $(VENV)/.ready
	$(BIN)/python -m tests.benchmarks

simulate: $(VENV)/.ready
	$(BIN)/python -m tests.simulation.kills --trials $(N) --seed $(SEED) --workers $(WORKERS)

schemas: $(VENV)/.ready
	$(BIN)/python -m schemas.publish

lock:
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-header --no-emit-index-url --no-annotate -o requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis bench-results simulate-results
