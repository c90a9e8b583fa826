# Everything is installed into .venv; nothing here needs root.
#
#   make run          set up once, then the demo: a real model, single path against dual path
#   make test         set up once, then lint, types and tests
#   make test-slow    what needs root or more time: network namespaces, Ray clusters, Ray's own channels
#   make notebooks    runs all of notebooks/, and writes what comes out into them
#   make screenshots  needs Debian's chromium and prometheus, and viztracer: the pictures in docs/pictures
#   make test-netlab  needs root, and a quiet machine: several nodes over NICs that the kernel shapes, in two lanes
#
# PYTHON=python3.12           the interpreter (3.11 to 3.14) that .venv is made from
# TORCH='torch>=2.11,<2.14'   what is installed when no torch >= 2.11 is there already (the interpreter's own is used)
# EXTRAS=dev,nixl,s3-test     optional parts that are installed, too: what tests need for NIXL and object stores
# TORCH_INDEX=ADDRESS         package index for torch alone, e.g. the address of PyTorch's CPU builds

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.dualpath-setup
PYTHON ?=
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
MODEL := smollm2-135m
EXTRAS ?= dev
PYTEST_ARGS ?=
# Quiet, and silent about packages of the interpreter that would want other versions: the venv's own do not touch them.
PIP_INSTALL := $(BIN)/python -m pip install -qq --no-warn-conflicts --disable-pip-version-check

.PHONY: setup run test test-slow test-netlab notebooks screenshots lint clean

setup: $(STAMP)

# One step a line. A step that is already done is skipped, so an interrupted setup goes on where it stopped.
$(STAMP): pyproject.toml constraints.txt Makefile
	@if [ ! -x $(BIN)/pip ]; then \
	  new='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))'; found=; \
	  for python in $(or $(PYTHON),python3 python3.11 python3.12 python3.13 python3.14); do \
	    if "$$python" -c "$$new" >/dev/null 2>&1; then found="$$python"; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "setup: Python 3.11 to 3.14 is needed and $(or $(PYTHON),none on the PATH) is not one; name one with make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "setup: virtual environment $(VENV) ($$("$$found" --version))"; \
	  "$$found" -m venv --system-site-packages $(VENV) || { \
	    echo "setup: $$found cannot make a virtual environment; on Debian and Ubuntu install the package python3-venv" >&2; \
	    exit 1; }; \
	fi
	@good='import re, torch; assert tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) >= (2, 11)'; \
	if $(BIN)/python -W ignore -c "$$good" >/dev/null 2>&1; then \
	  echo "setup: torch $$($(BIN)/python -W ignore -c 'import torch; print(torch.__version__)') is here already"; \
	else \
	  echo "setup: installing $(TORCH)"; \
	  $(PIP_INSTALL) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") '$(TORCH)'; \
	fi
	@echo "setup: installing dualpath-ray and what it needs"
	@$(PIP_INSTALL) -c constraints.txt -e '.[$(EXTRAS)]'
	@echo "setup: model $(MODEL)"
	@$(BIN)/dualpath models pull $(MODEL)
	@touch $@

run: setup
	@$(BIN)/dualpath demo

lint: setup
	@echo "lint: ruff"
	@$(BIN)/python -m ruff check --quiet .
	@$(BIN)/python -m ruff format --quiet --check .
	@echo "lint: mypy"
	@$(BIN)/python -m mypy dualpath_ray

test: lint
	@$(BIN)/python -m pytest tests --ignore=tests/slow --ignore=tests/netlab -q $(PYTEST_ARGS)

# What needs more than a virtual environment, or more time: network namespaces (root, iproute2), Ray clusters and channels,
# a browser (Debian's chromium).
test-slow: setup
	@$(BIN)/python -m pytest tests/slow tests/netlab -m "not timing" -q $(PYTEST_ARGS)

# Namespaces whose NICs are shaped by the kernel (tests/netlab/lab.py), with what only a quiet machine shows: shares, round
# trips, speedup. Prints what it measures.
test-netlab: setup
	@$(BIN)/python -m pytest tests/netlab -q -s $(PYTEST_ARGS)

# From top to bottom, assertions included; the last one starts a system. Some two minutes.
notebooks: setup
	@$(BIN)/python -m tests.slow.notebooks

# A real system under load, seen by a real browser: the live page, then Ray's dashboard; some seven minutes.
screenshots: setup
	@$(BIN)/python -m tests.slow.ray.screenshots docs/pictures
	@$(BIN)/python -m tests.slow.dashboard.screenshots docs/pictures

clean:
	@rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis dualpath_ray.egg-info
	@find dualpath_ray tests jobs -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
