# `make demo` and `make test` need nothing but Python 3.11+ and pip: they make .venv themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint docs checkpoints tables clean

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## attack the shipped checkpoints on the embedded digits
	$(BIN)/sde-bench attack --eps 0.03

test: $(VENV)/installed  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(VENV)/installed  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed  ## the site, in build/docs; broken links are errors
	$(BIN)/python -m mkdocs build --strict

checkpoints: $(VENV)/installed  ## train the four shipped checkpoints anew
	$(BIN)/sde-bench train --force --noise none --out checkpoints/digits-ode.safetensors
	$(BIN)/sde-bench train --force --noise additive --sigma 0.5 --out checkpoints/digits-additive.safetensors
	$(BIN)/sde-bench train --force --noise multiplicative --sigma 0.5 --out checkpoints/digits-multiplicative.safetensors
	$(BIN)/sde-bench train --force --noise dropout --sigma 0.5 --out checkpoints/digits-dropout.safetensors

tables: $(VENV)/installed  ## docs/tables.md from the schema
	$(BIN)/python -c 'from robustbench_sde.results.schema import documentation; print(documentation(), end="")' > docs/tables.md

clean:
	rm -rf $(VENV) build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
