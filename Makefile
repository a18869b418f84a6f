# make          set up and run the study of SCALE=laptop, to tables, figures and the paper
# make smoke    the same at smoke scale: minutes, not evidence
# make report   after either: figures, tables, pages and paper of SCALE=laptop in one archive with captions
# make partial  while either goes on: what there is of SCALE=laptop, without verdicts, in results/laptop/partial
# make arxiv    after either: the paper of SCALE=laptop as a LaTeX bundle; compiled and checked where latexmk is installed
# make results  after either: what was found with SCALE=laptop, as small files and a page under docs/results
# make verify   some published runs once more, from scratch, beside what was published; minutes
# make test     set up, then lint, types, tests and the pipeline at smoke scale
# make test-all      the same with the long tests: kills, full disks, several processes, a W&B server, every instrument
# make chaos    kill the pipeline at random moments, thirty times over, and compare what it comes to; up to half an hour
# make test-slurm    the pipeline on a Slurm that it starts, and as root on Debian installs; under ten minutes
# make setup    set up only
# make bench    the training speed of the same shapes beside other packages', on one core; ten to twenty minutes
# make bench-setup   the other packages, for `make bench`
SHELL := /bin/bash
PYTHON ?= python3
CORES ?= all
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

SCALE ?= laptop
# Recipes quote these as variables of the shell: as make writes them out, a blank or a `;` in one would be the shell's.
export SCALE CORES
SLURM := slurmctld slurmd slurm-client munge

.PHONY: study smoke report arxiv partial results verify test test-all test-slurm chaos setup bench bench-setup lint lock system
.DEFAULT_GOAL := study

study: setup
	@$(call run,--config scale="$$SCALE")

smoke: setup
	@$(call run,--config scale=smoke)

report: setup
	@snakemake --config scale="$$SCALE" --report results/"$$SCALE"/report.zip

partial: setup
	@python -m analysis partial "$$SCALE"

arxiv: setup
	@python -m analysis arxiv "$$SCALE"

results: setup
	@python -m analysis publish "$$SCALE"

verify: setup
	@python -m mlm verify docs/results/"$$SCALE" --cores "$$CORES"

# A file of tests is one worker's, and so are all that share the finished smoke pipeline.
define tests
mkdir -p results
pytest --numprocesses=auto --max-worker-restart=0 --dist=loadscope --no-loadscope-reorder --durations=40 $(1)
endef

test: setup lint
	$(call tests,)

test-all: setup lint
	$(call tests,-m 'not slurm')

chaos: setup
	@python -m tests.chaos.chaos

# Interrupted, and once, pytest ends the daemons that it started: without --foreground it would be told twice.
test-slurm: setup
	@if ! command -v slurmctld > /dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends $(SLURM); fi
	timeout --foreground --signal=INT --kill-after=60 540 pytest -m slurm tests/slurm

lint: setup
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile
	mypy

bench: setup
	@python -m mlm bench --json results/bench/bench.json
	@python -m analysis.figure_bench results/bench/bench.json results/bench

bench-setup: $(VENV)/bench-installed

$(VENV)/bench-installed: pyproject.toml $(VENV)/installed
	$(call extra,bench) > $(VENV)/bench-wanted
	python -m pip install --quiet --constraint requirements.lock --requirement $(VENV)/bench-wanted
	$(call extra,bench-alone) > $(VENV)/bench-wanted
	python -m pip install --quiet --no-deps --requirement $(VENV)/bench-wanted
	@touch $@

# The requirements of an extra in pyproject.toml, a line each.
extra = python -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['$(1)']))"

setup: $(VENV)/installed

$(VENV)/installed: requirements.lock | system
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --upgrade pip
	python -m pip install --quiet --requirement requirements.lock
	@touch $@

system:
	@for tool in git g++; do \
	  command -v $$tool > /dev/null || { echo "missing: $$tool; apt-get install $$tool" >&2; exit 2; }; done
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "missing: Python 3.11 or newer as $(PYTHON); set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null \
	  || { echo "missing: python3-venv; apt-get install python3-venv" >&2; exit 2; }

# A killed Snakemake leaves a lock. This shell and a live one hold results/.live: then the lock is not stale.
# Their jobs, which may outlive them, do not: the next Snakemake ends those (mlm/orphans.py).
define run
mkdir -p results; exec 9>> results/.live; \
if ! flock --exclusive --nonblock 9; then \
  echo "another snakemake is at work in this folder; wait for it, or stop it" >&2; exit 1; fi; \
flock --shared 9; \
if compgen -G '.snakemake/locks/*' > /dev/null; then \
  echo "a killed run left its lock behind; removing it and going on"; rm -rf .snakemake/locks; fi; \
snakemake --cores "$$CORES" $(1)
endef

# The pinned versions of what pyproject.toml asks for, from an environment made for the purpose.
lock: | system
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-lock/bin/python -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']))" > $(VENV)-lock/wanted
	$(VENV)-lock/bin/python -m pip install --quiet --requirement $(VENV)-lock/wanted
	$(VENV)-lock/bin/python -m pip check
	$(VENV)-lock/bin/python -m pip freeze --exclude pip --exclude setuptools | sed 's/+cpu$$//' > requirements.lock
	rm -rf $(VENV)-lock

environment.yml: pyproject.toml
	python -m mlm.environment > $@
