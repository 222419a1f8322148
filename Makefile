# `make demo` and `make test` need nothing but Python 3.11+ and pip: they make .venv themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: notebook bench mutants gpu demo gate baseline test test-lowest fuzz kills lint dist docs lock sbom vulnerabilities soak checkpoints tables clean

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/runs

# what the demo needs and no more; TORCH=--index-url=... picks a build of torch
$(VENV)/runs: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH) torch torchvision
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

demo: $(VENV)/runs  ## the smoke suite on the shipped checkpoints and embedded digits; ends with a page to open
	$(BIN)/sde-bench run smoke
	$(BIN)/sde-bench report reports/smoke

gate: $(VENV)/installed  ## have the shipped checkpoints become less robust? (docs/ci.md)
	rm -rf reports/gate  # what changed code measures, not what is stored
	$(BIN)/sde-bench run smoke --images 360 --name gate --no-cache
	$(BIN)/sde-bench compare reports/baseline-digits.json reports/gate --max-drop 0.02

baseline: $(VENV)/installed  ## a new baseline for the gate, after a change that is meant
	rm -rf reports/gate
	$(BIN)/sde-bench run smoke --images 360 --name gate --no-cache
	$(BIN)/sde-bench baseline save reports/gate reports/baseline-digits.json

test: $(VENV)/installed  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -rs

test-lowest: ## all tests with the lowest version of every dependency that pyproject.toml allows
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) .ci/lowest.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet --constraint .venv-lowest/constraints.txt --editable '.[test]'
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n auto --dist worksteal -rs

fuzz: $(VENV)/installed  ## thousands of cases of every hypothesis test, new ones each time
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -n auto tests/hostile/test_fuzz.py

kills: $(VENV)/installed  ## every command killed at forty random moments and gone on with; minutes
	SDE_BENCH_KILLS=40 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/hostile/test_signals.py

mutants: $(VENV)/installed  ## would the tests notice a broken line of the core? hours
	$(BIN)/python -m pip install --quiet --editable '.[dev,mutants]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.mutants

lint: $(VENV)/installed  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file benchmarks/mypy.ini benchmarks
	$(BIN)/lint-imports

docs: $(VENV)/installed  ## the site, in build/docs; broken links are errors
	$(BIN)/python -m mkdocs build --strict

checkpoints: $(VENV)/installed  ## train the five shipped digits checkpoints anew
	$(BIN)/sde-bench train --force --noise none --out checkpoints/digits-ode.safetensors
	$(BIN)/sde-bench train --force --noise additive --sigma 0.5 --out checkpoints/digits-additive.safetensors
	$(BIN)/sde-bench train --force --noise multiplicative --sigma 0.5 --out checkpoints/digits-multiplicative.safetensors
	$(BIN)/sde-bench train --force --noise dropout --sigma 0.5 --out checkpoints/digits-dropout.safetensors
	$(BIN)/sde-bench train --force --noise none --augment-noise 0.25 --out checkpoints/digits-smoothed.safetensors
	cp checkpoints/digits-*.safetensors robustbench_sde/models/shipped/  # these go into the wheel

notebook: $(VENV)/installed  ## run examples/notebook.ipynb anew and store its outputs in it
	$(BIN)/python -m pip install --quiet --editable '.[notebook]'
	$(BIN)/python -c "import nbformat, nbclient; path = 'examples/notebook.ipynb'; book = nbformat.read(path, 4); \
		nbclient.NotebookClient(book, record_timing=False).execute(); nbformat.write(book, path)"

bench: $(VENV)/installed  ## the tables of docs/performance.md, on digits; hours
	$(BIN)/python -m pip install --quiet --editable '.[dev,benchmarks]'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/gradient.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/memory.py
	$(BIN)/python -m benchmarks.time_to_answer
	$(BIN)/python -m benchmarks.scoring
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.adaptive_draws
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.profile_gradient
	$(BIN)/python -m benchmarks.decisions
	$(BIN)/python -m benchmarks.smoothing
	$(BIN)/python -m benchmarks.certificates bounds
	$(BIN)/python -m benchmarks.certificates savings

gpu: $(VENV)/installed  ## on a machine with a CUDA GPU: the tests marked `gpu`, then the tables of docs/performance.md
	$(BIN)/python -m benchmarks.gpu --json gpu.json

tables: $(VENV)/installed  ## docs/tables.md, docs/attacks.md, docs/noise.md and the catalogue of `list`, from the code
	$(BIN)/python docs/make_pages.py

dist: $(VENV)/installed  ## wheel and source distribution; tests/test_packaging.py looks at what is in them
	$(BIN)/python -m build

PYTHONS ?= python3.11 python3.12 python3.13 python3.14
lock:  ## .ci/requirements.txt: every dependency with its hash, for `pip install --require-hashes` (docs/ci.md)
	mkdir -p build/lock
	for python in $(PYTHONS); do test -x build/lock/$$python/bin/python || $$python -m venv build/lock/$$python; \
		build/lock/$$python/bin/python -m pip install --quiet --upgrade pip; \
		build/lock/$$python/bin/python -m pip install --dry-run --ignore-installed --quiet \
			--report build/lock/$$python.json . || exit 1; done
	$(PYTHON) .ci/lock.py build/lock/*.json > build/lock/requirements.txt
	mv build/lock/requirements.txt .ci/requirements.txt

sbom: $(VENV)/installed  ## build/sbom.cdx.json: the locked dependencies as a CycloneDX bill of materials (docs/ci.md)
	$(BIN)/python -m pip install --quiet 'cyclonedx-bom>=7'
	mkdir -p build
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom.cdx.json .ci/requirements.txt

vulnerabilities: $(VENV)/installed  ## are known holes in the locked dependencies? asks a database; one that it does not know is an error
	$(BIN)/python -m pip install --quiet 'pip-audit>=2.9'
	$(BIN)/pip-audit --requirement .ci/requirements.txt --require-hashes --disable-pip --strict

soak: $(VENV)/installed  ## two hours in one process: do memory, files and threads stay? (docs/faults.md)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.soak --minutes 120

clean:
	rm -rf $(VENV) .venv-lowest build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
