# The project's own commands. `make demo` and `make test` need Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PRODUCT := $(VENV)/.product
TOOLS  := $(VENV)/.tools

# Many containers forbid bytecode. Here dozens of processes start, and each would compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test lint types contracts machinery edge tests wheel bench chaos dev lock clean

help:                  ## what each command does
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */  make \1\t/' | expand -t 20

install: $(TOOLS)      ## the product and the tools of its tests into .venv

# The bytecode of what is used is written when it is used; compiling all of it would take longer than the demo's start.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

$(PRODUCT): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "FlexCore needs Python 3.11 or newer; this is $$($(PYTHON) --version). Set PYTHON=python3.12, say." >&2; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@echo "installing the product into $(VENV) (once, and when requirements.lock changes)" >&2
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(TOOLS): $(PRODUCT) tests/requirements.lock
	@echo "installing the tools of the tests into $(VENV) (once, and when tests/requirements.lock changes)" >&2
	@$(PIP) --require-hashes -r tests/requirements.lock
	@touch $@

demo: $(PRODUCT)        ## the main job on real Kafka and PostgreSQL, every figure checked
	@$(BIN)/python -m deploy.demo

# What is cheap comes first and side by side: a mistake shows within two minutes.
test: install          ## lint, types, contracts, then all tests with coverage
	@$(MAKE) --no-print-directory lint
	@$(BIN)/coverage erase
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target machinery types contracts edge
	@$(MAKE) --no-print-directory tests

lint: install
	@failed=0; $(BIN)/ruff check || failed=1; $(BIN)/ruff format --check || failed=1; exit $$failed

types: install
	@$(BIN)/mypy

contracts: install
	@$(BIN)/lint-imports

COVERED := $(BIN)/pytest -q --cov --cov-fail-under=0 --cov-report=
machinery: install
	@COVERAGE_FILE=.coverage.machinery $(COVERED) tests/unit/streams

edge: install
	@COVERAGE_FILE=.coverage.edge $(COVERED) tests/contract tests/unit --ignore=tests/unit/streams

# Three lanes of about the same length side by side, each with a broker of its own: most of these tests wait for
# time-outs. What kills processes says little about coverage and is slower with it; the others' sum counts.
KILLS := tests/chaos $(addprefix tests/e2e/test_,dependencies_away_end_to_end.py dev_stack.py) \
  $(addprefix tests/integration/test_,local_kafka.py offsets.py producer_faults.py)
tests: install
	@COVERAGE_FILE=.coverage.one $(COVERED) tests/integration $(KILLS:%=--ignore=%) & one=$$!; \
	  $(BIN)/pytest -q $(KILLS) & two=$$!; \
	  COVERAGE_FILE=.coverage.three $(COVERED) tests/e2e $(KILLS:%=--ignore=%); three=$$?; \
	  wait $$one; one=$$?; wait $$two && exit $$((one + three))
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

# Its tests run on what was compiled, so that a difference between the two shows here.
COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/build/product:$(CURDIR)
# Nobody else calls what is compiled: calls within it then need no table, which saves 2 to 3 % of a command.
WITHIN := -fno-semantic-interposition -fvisibility=hidden
wheel: install         ## the product as a wheel, its hot path compiled and tested (needs a C compiler)
	@echo "compiling the hot path into a wheel (half a minute)" >&2
	@rm -rf build dist && mkdir -p build/source
	@cp -r pyproject.toml README.md LICENSE app streams schemas connectors deploy build/source/
	@cd build/source && CFLAGS="$(CFLAGS) $(WITHIN)" HATCH_BUILD_HOOKS_ENABLE=1 $(CURDIR)/$(BIN)/python -m hatchling build -t wheel -d $(CURDIR)/dist >&2
	@$(PIP) --no-deps --target build/product dist/*.whl
	@$(COMPILED) $(BIN)/pytest -q -o pythonpath=build/product tests/unit/schemas tests/unit/streams

# What is measured is the wheel; from source without a C compiler, and the report says which.
bench: install         ## figures with peers side by side; BENCH="--modes drain --rounds 3" for a part
	@rm -rf build/product
	@! command -v cc >/dev/null || $(MAKE) --no-print-directory wheel
	@$(COMPILED) $(BIN)/python -m tests.performance $(BENCH)

CHAOS ?= --minutes 30 --faults 300
chaos: install         ## fault runs with the checker; CHAOS="--minutes 5 --seed 7" for another one
	@$(BIN)/python -m tests.chaos $(CHAOS)
	@$(BIN)/python -m tests.chaos.runs

dev: $(PRODUCT)        ## a stack that stays up until Ctrl-C
	@$(BIN)/flexcore dev up

COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --no-strip-extras --no-header --no-annotate \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

lock: install          ## both locks anew from pyproject.toml
	@$(COMPILE) --upgrade --extra build -o requirements.lock pyproject.toml
	@$(COMPILE) --upgrade --extra build --extra test --extra dev -c requirements.lock \
	  -o tests/requirements.lock pyproject.toml

clean:                 ## remove what was built and the local stack's data, not .venv
	@[ ! -x $(BIN)/flexcore ] || $(BIN)/flexcore dev down --wipe
	@rm -rf build dist *.egg-info .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
