# One-word targets; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format demo bench simulate faults constraints clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: $(VENV)/installed ## make the virtual environment and install what is pinned

$(VENV)/installed: constraints.txt pyproject.toml client_sdk/pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON). On Debian and Ubuntu: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"seatd needs Python 3.11 or newer; {sys.executable} is {v[0]}.{v[1]}. Name another one: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This python3 cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e client_sdk
	@touch $@

run: setup ## start seatd with demo tenants on the embedded store and SQLite, under var/
	@exec $(BIN)/seatd serve --demo

test: lint ## format check, ruff, mypy --strict, import-linter, pytest
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

lint: setup
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: setup ## a call centre's day in half a minute, against a real server
	$(BIN)/python -m bench.demo

bench: setup ## measure seatd beside its peers, at most 20 minutes; QUICK=1, ONLY="http channel"
	$(BIN)/python -m bench.run $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

constraints: setup ## pin again: newest versions with hashes, no index named
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet -o constraints.txt

simulate: setup ## try the rules of the seats on simulated faults; SEED=n replays, HISTORIES=n bounds
	$(BIN)/python -m tests.sim.run --histories $(or $(HISTORIES),2000) --seed $(or $(SEED),1)

faults: setup ## prove it: break everything, many times, within twenty minutes; SEED=n replays
	$(BIN)/python -m tests.faults.run --seed $(or $(SEED),1)

clean: ## remove the virtual environment and caches; var/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
