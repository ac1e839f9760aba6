# The only door for people and CI.
#   make setup   install into .venv: serving and the tools, no torch
#   make up      start the cluster on this machine; Ctrl-C stops it
#   make test    lint, types, import contracts, proto drift and all tests
#   make bench   requests/s, CPU per request and latency beside a direct call
#   make bench-faults  sixteen ways in which a provider fails, scored; a minute and a half
#   make soak    ten minutes of every fault at once: memory, descriptors, sums of counters
#   make proto   generate code from protos/
#   make proto-baseline  at a release: the protos as they are become what later ones may not break
#   make train   train the shipped routers again (needs torch, and data in POINTSMAN_DATA)
#   make images  build the services' container images (needs docker)
#   make deploy-test  docker-compose.yml in a real engine: a running one, or root's own on Debian

PYTHON ?= python3
VENV ?= .venv
# Real outcomes for training and benchmarks; tests that need them skip without, and say so.
export POINTSMAN_DATA ?= $(abspath ../shared/data)
# Tests, training and imports need torch. On Linux, PyPI's build brings gigabytes of CUDA along; for the CPU
# build: make test TORCH='torch --index-url https://download.pytorch.org/whl/cpu'
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
PROTOS := $(wildcard protos/pointsman/*/v1/*.proto)
# Absolute, so that the generators are found whatever the PATH is.
TOOLS := PATH="$(abspath $(BIN)):$$PATH"

.PHONY: setup up test lint proto proto-baseline bench bench-faults soak train images deploy-test clean

setup: $(VENV)/.serve

up: setup
	@$(BIN)/python -m services.all_in_one

test: lint
	$(TOOLS) $(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

proto: $(VENV)/.test
	$(TOOLS) $(BIN)/python -m grpc_tools.protoc -I protos --python_out=. --grpc_python_out=. \
	  --mypy_out=quiet:. --mypy_grpc_out=quiet:. $(PROTOS)

# Only what breaks nothing moves it: with CI set, a check that cannot be made fails.
proto-baseline: $(VENV)/.test
	CI=true $(TOOLS) $(BIN)/python -m pytest -q tests/contract/test_protos.py
	rm -rf tests/contract/proto_baseline && cp -r protos tests/contract/proto_baseline

bench: setup
	$(BIN)/python -m bench

bench-faults: setup
	@$(BIN)/python -m bench.fault_wall

soak: setup
	@$(BIN)/python -m bench.soak

# Twins first: the same routers without MMLU's labels or with 1,500 of them, for the figures on MMLU
# that routers trained on all of them cannot have.
TRAIN = $(BIN)/pointsman train
TRAIN_DATA = --data "$(POINTSMAN_DATA)"
TWINS := build/twins

train: $(VENV)/.train
	$(TRAIN) bert $(TRAIN_DATA) --save-encoder build/encoder-without-mmlu --out $(TWINS)
	$(TRAIN) mf $(TRAIN_DATA) --encoder build/encoder-without-mmlu --out $(TWINS)
	$(TRAIN) sw_ranking $(TRAIN_DATA) --encoder build/encoder-without-mmlu --out $(TWINS)
	for draw in 0 1 2; do $(TRAIN) mf $(TRAIN_DATA) --mmlu-labels 1500:$$draw --seed $$draw \
	  --encoder build/encoder-without-mmlu --name mf_1500_$$draw --out $(TWINS) || exit 1; done
	$(TRAIN) bert $(TRAIN_DATA) --mmlu-labels all --twins $(TWINS)/bert \
	  --save-encoder build/encoder --out pointsman/bundles
	$(TRAIN) mf $(TRAIN_DATA) --mmlu-labels all --twins $(TWINS)/mf $(TWINS)/mf_1500_* \
	  --encoder build/encoder --out pointsman/bundles
	$(TRAIN) sw_ranking $(TRAIN_DATA) --mmlu-labels all --twins $(TWINS)/sw_ranking \
	  --encoder build/encoder --out pointsman/bundles
	$(TRAIN) causal_llm $(TRAIN_DATA) --out pointsman/bundles

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

images: $(patsubst services/%/Dockerfile,image-%,$(wildcard services/*/Dockerfile))

image-%: services/%/Dockerfile
	docker build -f $< -t pointsman-$(subst _,-,$*):$(VERSION) -t pointsman-$(subst _,-,$*):latest .

deploy-test:
	@$(PYTHON) -m deploy.deploy_test $(DEPLOY_TEST)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Pointsman needs Python 3.11 or newer; try make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[serve,eval]'
	@touch $@

$(VENV)/.test: $(VENV)/.train
	$(BIN)/pip install --quiet --disable-pip-version-check --group test --group check
	@touch $@

# torch first and by itself: what it is, TORCH alone decides.
$(VENV)/.train: $(VENV)/.serve
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[import]'
	@touch $@
