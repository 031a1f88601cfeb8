# `make demo` shows the main job, `make test` checks the project; `.ci/run` is `make test`, `docs`, `packages` and `lowest`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types unit docs long fuzz kill measured docs-tables lowest packages aarch64 clean

demo: $(VENV)/.demo
	$(BIN)/reid-edge demo --out demo

test: lint types unit

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy -p reid_edge

# A process for each core, with one thread each: they do not fight for the cores.
unit: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests reid_edge --doctest-modules -n auto --dist worksteal

# The site: pages and the reference of every public name, in build/docs; a warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going docs build/docs

# What takes minutes: longer forms of the tests above.
long: $(VENV)/.dev
	$(BIN)/python -m pytest tests -m long

# 20,000 damaged files of every kind that is read; `make test` tries a thousand of each.
fuzz: $(VENV)/.dev
	$(BIN)/python tests/fuzz/fuzzer.py

# Kill runs at random moments, as `kill -9` does, and open what they leave: half an hour.
kill: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python -m kill.kill_trial --kills 300

# Measure again what README and docs say: without PARTS a list of what there is, what it needs and how long it takes.
measured: $(VENV)/.dev
	$(BIN)/python docs/measure.py $(PARTS)
	$(BIN)/python docs/render.py

# Write docs/measured/*.json into the pages.
docs-tables:
	$(PYTHON) docs/render.py

# The oldest versions that pyproject.toml allows, and no torch: what an older device has.
lowest:
	rm -rf .venv-lowest build
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --no-cache-dir uv
	.venv-lowest/bin/uv pip install --quiet --no-cache --python .venv-lowest/bin/python \
		--resolution lowest-direct '.[cpu,export,report,parquet]'
	.venv-lowest/bin/uv pip install --quiet --no-cache --python .venv-lowest/bin/python \
		pytest pytest-xdist hypothesis pyyaml
	OMP_NUM_THREADS=1 .venv-lowest/bin/pytest tests -W default --no-header -q -r f -n auto --dist worksteal

# Wheel, sdist, folder, git URL and editable checkout, each tried without torch; the wheel also with a device's own OpenCV
# and ONNX Runtime, and without any.
packages:
	PYTHON=$(PYTHON) .ci/packages

# The architecture of the device, emulated: the wheel, the tests of the runtime, embeddings as here. As root, 20 minutes.
aarch64: $(VENV)/.dev
	PYTHON=$(BIN)/python tests/packaging/aarch64.sh

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --no-cache-dir --progress-bar on -e '.[cpu,train,export]'
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --no-cache-dir --progress-bar on -e '.[cpu,train,export,report,rtx-build,dev]'
	touch $@

$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --no-cache-dir --progress-bar on -e '.[export,docs]'
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest build dist demo *.egg-info
