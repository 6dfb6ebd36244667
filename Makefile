# `make help` lists the targets. Everything runs in .venv, which is made from requirements.lock when it is missing.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first of these that starts, is 3.11–3.13 and can make environments is used; `make PYTHON=... demo` puts another first.
PYTHON ?=
PYTHONS := $(PYTHON) python3.11 python3.12 python3.13 python3
USABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

PROFILE := fashion
SHARED := {}

.PHONY: help demo answers plan tables test test-slow test-browser lint lab app doctor lock hooks clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-12s %s\n", $$1, $$2 }'

demo: $(STAMP) ## run notebooks/quickstart.ipynb, print its table, say where the notebook and its HTML are
	@$(BIN)/python -m dadlab.demo

answers: $(STAMP) ## put the committed answers of our runs under runs/, so that they need no training
	@$(BIN)/python -m dadlab.ledger unpack

plan: $(STAMP) ## which runs Tables 1–12 still need, and their hours; PROFILE=imagenet
	@$(BIN)/python -m dadlab.tables.plan --profile $(PROFILE) --shared '$(SHARED)'

tables: $(STAMP) ## run the first paper's tables and figures and write papers/dad/report.html; PROFILE=imagenet
	@$(BIN)/python -m dadlab.tables.overnight --profile $(PROFILE) -p shared '$(SHARED)'

test: lint ## linter, formatter, type checker, then the tests
	@$(BIN)/python -m pytest

test-slow: $(STAMP) ## the tests that take minutes, two files at a time
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist loadfile

test-browser: $(STAMP) ## drive notebooks/inspect.ipynb in Chromium; pictures of it in build/browser/
	@$(BIN)/python -m pytest -m browser

lint: $(STAMP) ## linter, formatter and type checker
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

lab: $(STAMP) ## JupyterLab, at notebooks/
	@$(BIN)/python -m jupyterlab --LabApp.default_url=/lab/tree/notebooks

app: $(STAMP) ## the views of notebooks/inspect.ipynb without the code, served by Voilà
	@$(BIN)/python -m voila notebooks/inspect.ipynb --TagRemovePreprocessor.remove_cell_tags=static

doctor: $(STAMP) ## say what this machine lacks, and how to mend it
	@$(BIN)/python -m dadlab.doctor

lock: $(STAMP) ## resolve pyproject.toml into requirements.lock, keeping its pins; UPGRADE=--upgrade renews them
	@$(BIN)/python -m uv pip compile --quiet --no-config --universal --python-version 3.11 --extra dev --extra app \
	  --no-header --no-emit-index-url $(UPGRADE) --output-file requirements.lock pyproject.toml
	@echo "requirements.lock written; environment.yml repeats its direct pins, tests/test_environment.py compares them"

hooks: $(STAMP) ## install the git pre-commit hooks
	@$(BIN)/python -m pre_commit install

clean: ## remove .venv and caches; runs/ stays
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.lock pyproject.toml
	@if ! $(BIN)/python -c '$(USABLE)' 2>/dev/null; then \
	  found=; \
	  for candidate in $(PYTHONS); do \
	    if $$candidate -c '$(USABLE)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "dadlab needs Python 3.11, 3.12 or 3.13 with its venv module (on Debian and Ubuntu: python3-venv); none was found" >&2; \
	    exit 1; \
	  fi; \
	  $$found -m venv --clear $(VENV); \
	fi
	@echo "installing pinned packages into $(VENV), about 2–5 minutes and 7 GB the first time"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import cv2' 2>/dev/null || \
	  { echo "OpenCV cannot be loaded; on Debian and Ubuntu install libgl1 and libglib2.0-0, then run make again" >&2; exit 1; }
	@touch $@
