# The two doors are `make demo` and `make test`; each sets up what it needs inside this checkout and works a second time at once.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test check format docs bench soak accept-client lock clean
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s $$'\t'

setup: $(VENV)/.ready  ## the virtual environment
$(VENV)/.ready: requirements/dev.txt pyproject.toml tools/setup.sh
	@bash tools/setup.sh $(VENV)

demo: setup  ## the main job: a service, real work, a table and a picture
	@$(BIN)/python -m examples.demo

test: setup  ## every tier that runs here
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: setup  ## format, lint, types, layers, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.docs --check

format: setup  ## put the code in form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup  ## write the generated pages
	$(BIN)/python -m tools.docs

bench: setup  ## speed and memory, as a table
	$(BIN)/python -m bench

soak: setup  ## random kills until stopped: make soak KILLS=1000
	$(BIN)/python -m nexus.testing.kill --random $(or $(KILLS),1000)

accept-client: setup  ## the real nexus-client-sdk against this service (948 MB, Python 3.11)
	$(BIN)/python -m pytest -o addopts= -q tests/acceptance/client --client

lock:  ## pin the dependencies again
	@bash tools/lock.sh $(VENV)

clean:  ## remove everything that was set up
	rm -rf $(VENV) .demo .bench
