# One command each. Everything is installed into .venv* below this folder; nothing else on the machine changes.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test check docs bench clean

help:  ## Show what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.base: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (a minute or two, once) ..."
	@$(PYTHON) -c 'import sys; sys.exit("sagesmith needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip $(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.base
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/python -m pip $(PIP) --group test --group check
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/python -m pip $(PIP) --group docs
	@touch $@

# The Python SDKs pin versions of their own, so each gets an environment of its own.
.venv-sdk%/.ready: constraints-sdk%.txt
	@echo "Setting up .venv-sdk$* for the real-client tests ..."
	@test -x .venv-sdk$*/bin/python || $(PYTHON) -m venv .venv-sdk$*
	@.venv-sdk$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement constraints-sdk$*.txt
	@touch $@

install: $(VENV)/.base  ## Set up .venv with sagesmith and the tabular algorithms

demo: $(VENV)/.base  ## Train, deploy and call a model through the real AWS client (KEEP=1 leaves it running)
	@$(BIN)/python -m sagesmith.demo $(if $(KEEP),--keep)

test: $(VENV)/.test .venv-sdk2/.ready .venv-sdk3/.ready  ## Run the whole suite
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.test  ## Format, lint, types, import floors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(VENV)/.docs  ## Build the documentation into docs/_build/html
	@$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.test  ## Run the comparisons in benchmarks/ (peers that are not installed are skipped, saying so)
	@$(BIN)/python -m pip $(PIP) --group bench
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:  ## Remove the environments and build products
	rm -rf .venv .venv-sdk2 .venv-sdk3 build docs/_build *.egg-info
