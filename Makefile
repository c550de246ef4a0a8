# Everything happens in .venv; nothing is installed elsewhere.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
# Tests share the machine's cores; TESTS narrows them, e.g. make test TESTS=tests/core
TESTS ?= tests
WORKERS ?= auto

.PHONY: run test lint format simulate soak attack bench bench-quick docs changelog clean

run: $(VENV)/server
	$(BIN)/twistd --nodaemon --pidfile= chat $(ARGS)

test: $(VENV)/installed node_modules/installed
	$(BIN)/python -m pytest -n $(WORKERS) $(TESTS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The room's recovery under faults, for as long as wanted: make simulate RUNS=100000
RUNS ?= 20000
SEED ?= 1
simulate: $(VENV)/installed
	$(BIN)/python -m tests.core.simulate --runs $(RUNS) --first-seed $(SEED)

# Three nodes on Redis under faults, for as long as wanted: make soak SECONDS=600
SECONDS ?= 600
soak: $(VENV)/installed
	$(BIN)/python -m tests.cluster.soak --seconds $(SECONDS)

# A thousand members, and one address that attacks their server in every way at once: make attack ATTACKS='pings bodies'
ATTACKS ?=
attack: $(VENV)/installed
	$(BIN)/python -m tests.attack.campaign $(ATTACKS)

# Side by side with other servers, which are installed into benchmarks/build; about three quarters of an hour. See docs/performance.rst.
# Less of it: make bench TOPICS='delivery memory'
TOPICS ?=
bench: $(VENV)/installed
	$(BIN)/python -m benchmarks $(TOPICS)

# A minute, and nothing is installed.
bench-quick: $(VENV)/installed
	$(BIN)/python -m benchmarks --quick $(TOPICS)

docs: $(VENV)/installed
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

changelog: $(VENV)/installed
	$(BIN)/towncrier build --yes

# What the server needs, which is less than what its tests and documentation need.
$(VENV)/server: setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "twisted_chat needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed: $(VENV)/server
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# The JavaScript clients that the tests talk to us with; without npm those tests are skipped.
node_modules/installed: package.json
	if command -v npm >/dev/null; then npm install --no-package-lock --loglevel=error --silent --no-audit --no-fund; else mkdir -p node_modules; fi
	touch $@

clean:
	rm -rf $(VENV) node_modules build dist *.egg-info docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
