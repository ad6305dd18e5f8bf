# Two commands on a fresh machine: `make demo` and `make test`. Both create what they need and print what they do.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
N ?= 50
SEED ?= 1
WHAT ?= flips
DATA ?= ../shared/data
WORKERS ?= $(shell nproc)
# uv trusts the certificates that this machine trusts.
export UV_NATIVE_TLS := 1
export UV_SYSTEM_CERTS := 1
# Bytecode is kept, so that the second run does not compile every module and test anew.
unexport PYTHONDONTWRITEBYTECODE

MODULE ?=

.PHONY: help demo compile test lint check inputs mutation bench bench-kafka kafka kafka-demo faults simulate simulate-media simulate-kafka simulate-hostile simulate-brokers soak notebook lock schemas clean

help:
	@echo "make demo              a crash day, 1,000 accounts: calls, answers, kill, recovery, replay, verify (under a minute)"
	@echo "make kafka-demo        the same on Apache Kafka: a broker, two workers, kills, the same digests as in a folder"
	@echo "make test              all tests, on the compiled core and on plain Python"
	@echo "make check             formatting, lint, types, import rules, purity, fast tests"
	@echo "make compile           the core in C (mypyc): the same results, about twice as fast; make test does it too"
	@echo "make bench             benchmarks, JSON in bench-results/"
	@echo "make bench-kafka       benchmarks on a real broker, beside plain Faust"
	@echo "make inputs            N times as many duplicated, reordered and malformed inputs as make test tries (N=$(N))"
	@echo "make mutation          small changes of core and journal that no test detects (MODULE=lifecycle; all: half an hour)"
	@echo "make simulate          N kills of an ingest at random moments (N=$(N) SEED=$(SEED))"
	@echo "make simulate-media    damaged and failing disks (WHAT=$(WHAT) N SEED; without N: the full count)"
	@echo "                       WHAT=flips|shapes|torn|calls|libfiu|limits|bits|stops|memory"
	@echo "make simulate-kafka    N trials with faults on a real broker (N=$(N) SEED=$(SEED))"
	@echo "make simulate-hostile  several hostile things at once, on both hosts (without N: 1,000 trials, a quarter of an hour)"
	@echo "make simulate-brokers  three brokers, one killed while producing, five times"
	@echo "make soak              30 minutes on each host, 5 million inputs, kills every two minutes: memory and lag"
	@echo "make schemas           write JSON Schema, samples and the pages on events, errors and settings from the code"
	@echo "make notebook          execute docs/notebook.ipynb and keep its outputs"
	@echo "make lock              resolve the dependencies into requirements.lock"
	@echo "make clean             remove the virtual environment, caches and results"

$(VENV)/.ready: requirements.lock pyproject.toml
	@./.ci/setup $(VENV) $(PYTHON)
	@touch $@

demo: $(VENV)/.ready
	@$(BIN)/margin-stream demo

kafka: .tools/kafka/libs/.complete

.tools/kafka/libs/.complete: .ci/kafka/pom.xml
	@./.ci/kafka/fetch

kafka-demo: $(VENV)/.ready kafka
	@$(BIN)/python -m margin_stream.cli.kafka_demo

faults:
	@./.ci/faults/fetch

compile: $(VENV)/.ready
	@./.ci/compile $(VENV)

test: $(VENV)/.ready compile kafka faults
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
	MARGIN_STREAM_COMPILED=0 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m plain_core

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.purity

check: lint
	MARGIN_STREAM_COMPILED=0 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

inputs: $(VENV)/.ready
	TIMES=$(N) $(BIN)/python -m pytest -n $(WORKERS) tests/properties/test_duplicates_and_order.py tests/properties/test_identity.py \
		tests/properties/test_feeds.py tests/integration/test_malformed_inputs.py

mutation: $(VENV)/.ready
	MARGIN_STREAM_COMPILED=0 $(BIN)/python -m tests.mutation $(MODULE)

bench: $(VENV)/.ready compile
	$(BIN)/python -m tests.benchmarks
	$(BIN)/python -m tests.benchmarks.engine 100000
	$(BIN)/python -m tests.benchmarks.crash_day

simulate: $(VENV)/.ready
	$(BIN)/python -m tests.simulation.kills --trials $(N) --seed $(SEED) --workers $(WORKERS)

simulate-media: $(VENV)/.ready faults
	$(BIN)/python -m tests.simulation.media $(WHAT) $(if $(filter command line environment,$(origin N)),--trials $(N)) --seed $(SEED) --workers $(WORKERS)

simulate-hostile: $(VENV)/.ready
	$(BIN)/python -m tests.simulation.hostile $(if $(filter command line environment,$(origin N)),--trials $(N)) --seed $(SEED) --workers $(WORKERS)

simulate-kafka: $(VENV)/.ready kafka
	$(BIN)/python -m tests.kafka.trials --trials $(N) --seed $(SEED)

soak: $(VENV)/.ready compile kafka
	$(BIN)/python -m tests.simulation.soak folder
	$(BIN)/python -m tests.simulation.soak kafka

simulate-brokers: $(VENV)/.ready kafka
	$(BIN)/python -m tests.kafka.brokers

bench-kafka: $(VENV)/.ready compile kafka
	$(BIN)/python -m tests.benchmarks.on_kafka

schemas: $(VENV)/.ready
	$(BIN)/python -m schemas.publish
	$(BIN)/python -m margin_stream.cli.reference_docs

notebook: $(VENV)/.ready
	$(BIN)/python -m tests.notebook

lock:
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-header --no-emit-index-url --no-annotate -o requirements.lock

clean:
	rm -rf $(VENV) margin_stream/native/built .pytest_cache .mypy_cache .ruff_cache .hypothesis bench-results simulate-results mutation-results
