# The few commands a person types; `make help` lists them.

PYTHON := .venv/bin/python
MPIRUN ?= mpirun
# ranks of `make run` and `make bench`: the physical cores that this process may use
NP ?= $(shell c=$$(lscpu -p=CORE,SOCKET 2>/dev/null | grep -v '^\#' | sort -u | wc -l); n=$$(nproc); [ $$c -ge 1 ] && [ $$c -lt $$n ] && echo $$c || echo $$n)
RUN := solidification
ARGS ?=

# packages of other Pythons (environment modules put them there) must not mix with those of .venv
unexport PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE := 1
ifeq ($(shell id -u),0)
# in a container everything is root; Open MPI wants to be told that this is meant
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
export PRTE_ALLOW_RUN_AS_ROOT := 1
export PRTE_ALLOW_RUN_AS_ROOT_CONFIRM := 1
endif

.PHONY: help run install install-all test lint bench clean distclean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	    || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1   \2/p' $(MAKEFILE_LIST)
	@echo "Settings: NP=2 (ranks)  ARGS='-k halo' (to pytest)  OSTWALD_MARCH, OSTWALD_PYTHON, MPICC, HDF5_DIR, PETSC_DIR: docs/installation.md"

run: install  ## install what molecular dynamics needs, then freeze a melt on all cores and say where the report is
	$(MPIRUN) -n $(NP) .venv/bin/ostwald run examples/$(RUN)/run.toml --directory runs/$(RUN) --force $(ARGS)

install:  ## what molecular dynamics needs, into .venv
	@bash jobscripts/install.sh md

install-all:  ## the whole stack: PETSc, torch, Horovod, the tools of the tests
	@bash jobscripts/install.sh all

test: install-all  ## all tests: unit tests on 1 rank, MPI tests on 1, 2, 3 and 4 ranks
	@$(PYTHON) tests/run.py $(ARGS)

lint: install-all  ## ruff
	$(PYTHON) -m ruff check .

bench: install  ## the speed of molecular dynamics on this machine
	.venv/bin/ostwald bench md $(ARGS)

clean:  ## remove what was built and the caches; .venv and the kept wheels stay
	rm -rf build/lib* build/temp* build/bdist* build/scratch* build/kernels.flags build/log build/test dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	rm -f app/kernels/*.so
	find app io parallel tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean  ## and .venv and the kept wheels
	rm -rf .venv build
