PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
ARGS ?=

.PHONY: tune test soak lint clean
.DELETE_ON_ERROR:

tune: $(VENV)/.installed
	$(BIN)/tunekit tune mish_mish --shape 64,128,254,254 $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n auto $(ARGS)

# What takes minutes: kills, floods, fuzzing. What it counted is printed, and left in soak.json.
soak: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m soak -p no:xdist --tally soak.json $(ARGS)
	$(BIN)/python benchmarks/reliability.py soak.json

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -type d -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -e '.[dev]'
	touch $@
