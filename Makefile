# Everything the project does, on a machine with Python 3.11 or newer and make, and nothing else.
#
#   make demo    a chain, three nodes and the balancer in front of them, to look at   (ARGS="--port 8080")
#   make test    every test, against real parts                                       (TESTS=tests.policy)
#   make help    the rest
#
# Dependencies go into .venv, in the versions of constraints/python.txt, and only when these changed. The package itself
# is not installed there: it is run from the checkout (tools/deps.py says why).
#
#   make constraints             settle the versions anew (to be committed)
#   make test DEPS=newest        with what the ranges of setup.py give today; DEPS=lowest: with their lower ends
#   make pythons                 the tests on each supported Python that is on this machine

PYTHON ?= python3
DEPS ?= settled
VENV ?= .venv$(if $(filter-out settled,$(DEPS)),-$(DEPS))
PY = $(VENV)/bin/python
INSTALL = $(PY) tools/deps.py $(if $(filter-out settled,$(DEPS)),--$(DEPS))
SETTLED = setup.py tools/deps.py constraints/python.txt

# Which reactor the tests run on: evmlb (as in production), asyncio, epoll ...; and on how many processes.
REACTOR ?= evmlb
JOBS ?= 1
TESTS ?= tests
# what needs no real parts, and takes a third of the time
UNIT = $(filter-out tests.integration tests.support,$(patsubst tests/%,tests.%,$(basename $(patsubst %/,%,$(wildcard tests/*/) $(wildcard tests/test_*.py)))))
TRIAL = $(PY) -m twisted.trial -r $(REACTOR) $(if $(filter-out 1,$(JOBS)),-j $(JOBS))
ARGS ?=

.PHONY: help demo test unit fuzz lint format types docs layers bench bench-faults bench-hedges bench-overload bench-websocket chaos smoke parts constraints pythons clean distclean

help:
	@echo 'make demo       chain, nodes and balancer, to look at (ARGS= for its options)'
	@echo 'make test       all tests (TESTS=, REACTOR=, JOBS=)'
	@echo 'make unit       those that need no real parts'
	@echo 'make fuzz       the tests, with properties tried on examples that are new each time'
	@echo 'make lint       ruff;  make format  lets it rewrite'
	@echo 'make types      mypy'
	@echo 'make docs       links and examples of the documentation'
	@echo 'make layers     who may import whom'
	@echo 'make smoke      the demo, started, asked and stopped'
	@echo 'make bench      speed, against others (ARGS= for its options)'
	@echo 'make bench-faults    what clients see while a node misbehaves (ARGS= for its options);  make bench-overload'
	@echo 'make bench-hedges    what asking a second node costs while all are well'
	@echo 'make bench-websocket calls and subscriptions over WebSocket, against HAProxy (ARGS= for its options)'
	@echo 'make chaos      2,000 simulated runs among faults (ARGS="--seed N --runs K")'
	@echo 'make parts      fetch the real parts that tests need into .parts'
	@echo 'make constraints     settle the versions of all that is installed;  make test DEPS=newest  or  DEPS=lowest'
	@echo 'make pythons    the tests on each supported Python that is here'
	@echo 'make clean      remove what is built;  make distclean  .venv and .parts too'

demo: $(VENV)/.has-run
	@$(PY) -m evmlb demo $(ARGS)

test: $(VENV)/.has-test parts
	$(TRIAL) $(TESTS)

fuzz: $(VENV)/.has-test parts
	EVMLB_FUZZ=1 $(TRIAL) $(TESTS)

lint: $(VENV)/.has-lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(VENV)/.has-lint
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(VENV)/.has-lint
	$(PY) -m mypy

docs: $(VENV)/.has-run
	$(PY) -m tools.check_docs

layers: $(VENV)/.has-test
	$(PY) -m twisted.trial tests.test_layers

smoke: $(VENV)/.has-run
	$(PY) tools/smoke.py

bench: $(VENV)/.has-run
	$(PY) bench/run.py $(ARGS)

bench-faults: $(VENV)/.has-run
	$(PY) bench/faults.py $(ARGS)

bench-hedges: $(VENV)/.has-run
	$(PY) bench/hedges.py $(ARGS)

bench-overload: $(VENV)/.has-run
	$(PY) bench/overload.py $(ARGS)

bench-websocket: $(VENV)/.has-run
	$(PY) bench/websocket.py $(ARGS)

chaos: $(VENV)/.has-run
	$(PY) -m evmlb chaos $(or $(ARGS),--seed 0 --runs 2000)

parts: $(VENV)/.has-test
	@$(PY) tools/parts.py

constraints: $(VENV)/.has-build
	$(PY) -m tools.constraints

unit: $(VENV)/.has-test
	$(TRIAL) $(UNIT)

pythons:
	@$(PYTHON) tools/pythons.py $(ARGS)

clean:
	rm -rf build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* twisted/plugins/dropin.cache
	find evmlb tests tools bench twisted -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-* .parts .tox

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "evmlb needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.has-run: $(SETTLED) | $(PY)
	$(INSTALL)
	@touch $@

$(VENV)/.has-test: $(SETTLED) | $(PY)
	$(INSTALL) test
	@touch $@

$(VENV)/.has-lint: $(SETTLED) | $(PY)
	$(INSTALL) test lint
	@touch $@

$(VENV)/.has-build: $(SETTLED) | $(PY)
	$(INSTALL) test lint build
	@touch $@
