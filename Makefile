# Two commands do everything: `make demo` shows the main job, `make test` checks the project.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types unit lowest wheel clean

demo: $(VENV)/.demo
	$(BIN)/reid-edge demo --out demo

test: lint types unit

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# mypy cannot follow the editable mapping of training/, export/ and benchmarks/: check an installed copy.
types: $(VENV)/.dev
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --target build/typed .
	cd build/typed && $(abspath $(BIN))/mypy --config-file $(abspath pyproject.toml) -p reid_edge

unit: $(VENV)/.dev
	$(BIN)/python -m pytest tests reid_edge --doctest-modules

# The oldest versions that pyproject.toml allows, and no torch: what an older device has.
lowest:
	rm -rf .venv-lowest build
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --no-cache-dir uv
	.venv-lowest/bin/uv pip install --quiet --no-cache --python .venv-lowest/bin/python \
		--resolution lowest-direct '.[export,report,parquet]'
	.venv-lowest/bin/uv pip install --quiet --no-cache --python .venv-lowest/bin/python pytest hypothesis pyyaml
	.venv-lowest/bin/pytest tests -W default --no-header -q -r f

wheel: $(VENV)/.dev
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --no-cache-dir --progress-bar on -e '.[train,export]'
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --no-cache-dir --progress-bar on -e '.[train,export,report,rtx-build,dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest build dist demo *.egg-info
