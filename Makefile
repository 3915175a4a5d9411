# Everything a person does with this repository; `make help` lists it.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
TESTS ?= tests
# Processes that share the tests, a file at a time; JOBS=0 runs them in one, for a debugger. In the order of the files:
# those with few tests are the long ones, and would otherwise come last, one process waiting for the other.
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run test bench check format satellite lock clean system-packages
# A `make -j` must not install while it tests.
.NOTPARALLEL:

help:  ## List what can be made.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1@\2/' | column -t -s @ 2>/dev/null || true

run: $(STAMP)  ## Start Marvain here; ARGS="--web-port 9000" are passed on.
	@exec $(BIN)/marvain up $(ARGS)

test: $(STAMP) system-packages  ## Run all tests; TESTS=tests/hub or ARGS="-k presence" narrow it, JOBS=4 uses more cores.
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS) $(ARGS)

bench: $(STAMP) system-packages  ## Measure beside the peers, into bench/results; ARGS="--seconds 1" is quicker.
	@set -e; for script in broker acl acl_live telemetry commands actions ingest fleet satellite; do $(BIN)/python bench/$$script.py $(ARGS); done

check: $(STAMP)  ## Format, lint, types, layers, generated documents.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

format: $(STAMP)  ## Bring all code into form.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

satellite: $(STAMP)  ## Build the daemon for devices into dist: its wheels, and one file that Python starts.
	@$(BIN)/python setup/satellite_archive.py

lock:  ## Pin requirements.in anew into requirements.lock; needs uv.
	@setup/lock

clean:  ## Remove the environment and all caches; no data.
	rm -rf $(VENV) build dist *.egg-info */*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system-packages:
	@setup/system-packages chromium mosquitto mosquitto-clients

# The stamp is older than what it depends on exactly when something has to be installed again.
$(STAMP): requirements.lock pyproject.toml hub_protocol/pyproject.toml satellite_agent/pyproject.toml
	@setup/environment $(VENV)
	@touch $@
