# make demo       set up .venv and see a trained network classify digits on packed bits
# make test       set up .venv for tests; linters, types, import contracts, tests
# make test-all   the same with many more examples and the slow tests
# make bench      the benchmarks: this project beside others, as ratios
# make docs       the documentation site, in site/: open site/index.html
# make clean      remove caches and builds (make distclean: .venv too)

# The first Python on the path that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
JOBS ?= 2
# One thread per test process: JOBS processes share the machine already.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --timeout 1800 --durations 10

.NOTPARALLEL:
.PHONY: demo test test-all lint ruff mypy lint-imports unit bench docs clean distclean

demo: $(VENV)/.installed-demo
	$(BIN)/refdesign demo

test: lint unit

lint: ruff mypy lint-imports

ruff: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

mypy: $(VENV)/.installed-dev
	$(BIN)/mypy

lint-imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

unit: $(VENV)/.installed-dev
	$(PYTEST)

test-all: lint $(VENV)/.installed-dev
	$(PYTEST) -m "" --hypothesis-profile long

bench: $(VENV)/.installed-dev
	@for file in benchmarks/[a-z]*.py; do \
	    $(BIN)/python -m "benchmarks.$$(basename "$$file" .py)" || exit 1; done

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "refdesign needs Python 3.11 or newer: none is on the path; name one with 'make PYTHON=...'" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "refdesign needs Python 3.11 or newer; '$(PYTHON)' is: $$("$(PYTHON)" --version 2>&1)" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

# The stamps keep a second call from installing again; the project itself is installed editable.
$(VENV)/.installed-demo: pyproject.toml setup.py constraints.txt | $(BIN)/pip
	$(PIP) --editable ".[plot]"
	@touch $@

$(VENV)/.installed-dev: pyproject.toml setup.py constraints.txt | $(BIN)/pip
	$(PIP) --editable ".[dev]"
	@touch $@

$(VENV)/.installed-docs: pyproject.toml setup.py constraints.txt | $(BIN)/pip
	$(PIP) --editable ".[docs,plot,verify,wave]"
	@touch $@

clean:
	rm -rf build dist site *.egg-info .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
