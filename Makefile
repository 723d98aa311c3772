# Everything runs in .venv, made from constraints.txt. `make run` and `make test` need nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test slow chaos lint docs format clean

run: $(STAMP)
	$(BIN)/neurosim run scenarios/random_order.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

slow: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# Kills, damages and fuzzes; docs/reliability.md shows its table.
SEED ?= 0
BUDGET ?= 10
chaos: $(STAMP)
	$(BIN)/python tests/chaos $(SEED) $(BUDGET)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo 'read it: $(BIN)/python -m http.server --directory build/site'

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "neurosim needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[data,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
