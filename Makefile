# make demo: the whole pipeline on synthetic data. make test: lint and tests. make docs: the site.
# Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DOCS := .venv-docs
READY := $(VENV)/ready
CLI := PYTHONPATH=workflow/scripts $(BIN)/python -m swift_debias.cli
PROFILE ?= profiles/demo
export OMP_NUM_THREADS ?= 1

.PHONY: demo what-changed quick test test-all test-slurm test-oldest coverage mutants slurm lint docs generated \
	bundle compare container bench format setup clean

demo: setup
	$(BIN)/snakemake --profile profiles/demo

# What a change would rerun, and why: make what-changed [PROFILE=profiles/local] [CONFIG=my.yaml]
what-changed: setup
	@$(CLI) what-changed --profile $(PROFILE) $(if $(CONFIG),--configfile $(CONFIG))

# A finished run in one file to cite and to check: make bundle [RUN=results/demo] [FORCE=1]
RUN ?= results/demo
bundle: setup
	@$(CLI) bundle $(RUN) $(if $(FORCE),--force)

# A method of yours beside SWiFT and others on synthetic images: make compare METHOD=my_method.py
compare: setup
	@[ -n "$(METHOD)" ] || { echo "make compare METHOD=my_method.py: name your method's file"; exit 2; }
	@$(CLI) compare "$(METHOD)"

setup: $(READY)

# torch first: another package must not pull a different build of it.
$(READY): requirements.txt requirements-dev.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $$(grep '^torch==' requirements.txt)
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $(READY)

# The inner loop: under a minute.
quick: setup
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not long" tests/unit/test_one_step.py \
		tests/unit/test_one_step_loops.py tests/unit/test_methods.py tests/unit/test_masks.py tests/unit/test_losses.py \
		tests/unit/test_metrics.py tests/unit/test_tables.py tests/workflow/test_settings.py \
		tests/workflow/test_rooms.py tests/keys/test_walk.py tests/docs/test_pages.py

# What every change must pass: ten minutes on two cores.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile tests --ignore tests/slurm

# What CI runs besides: whole runs with conda, of one's own table, of renamed methods, killed, failing, on a full disk.
test-ci: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m ci tests --ignore tests/slurm

# What is too slow for that: a SLURM of its own, long chaos, every key frozen, every fault planted, oldest versions.
test-all: lint test-slurm
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "" tests --ignore tests/slurm
	PYTHONPATH=workflow/scripts $(BIN)/python -m tests.keys.frozen
	$(MAKE) mutants test-oldest

test-slurm: setup slurm
	$(BIN)/python -m pytest tests/slurm

# The library with the least versions that pyproject.toml allows: those that conda-forge surely has.
OLDEST := .venv-oldest

$(OLDEST)/ready: resources/conda_forge.csv pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv --clear $(OLDEST)
	awk -F, 'NR > 1 && $$2 {print $$2 "==" $$4}' resources/conda_forge.csv > $(OLDEST)/least.txt
	$(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
		> $(OLDEST)/ranges.txt
	$(OLDEST)/bin/pip install --quiet $$(grep '^torch==' $(OLDEST)/least.txt)
	$(OLDEST)/bin/pip install --quiet --constraint $(OLDEST)/least.txt --requirement $(OLDEST)/ranges.txt \
		$$(grep -E '^(pytest|pytest-xdist|hypothesis)==' requirements-dev.txt)
	touch $@

test-oldest: $(OLDEST)/ready
	$(OLDEST)/bin/python -m pytest -n 2 --dist loadfile tests/unit tests/data

# Branch coverage of the library by the fast tests: in all what pyproject.toml wants, and 85 % of every file.
coverage: setup
	PROJECT=$(CURDIR) $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" --cov --cov-report=term \
		tests/unit tests/data tests/keys tests/scripts tests/workflow tests/adversarial \
		tests/end_to_end/test_benchmark.py tests/end_to_end/test_own_external.py
	@$(BIN)/coverage json -q -o - | $(BIN)/python -c "import json, sys; files = json.load(sys.stdin)['files'].items(); \
		low = [name for name, of in files if of['summary']['percent_covered'] < 85]; \
		sys.exit(f'below 85 %: {low}' if low else 0)"

# Small faults planted one after another: is each noticed by a test? make mutants [ONLY=text]
mutants: setup
	$(BIN)/python tests/mutants/run.py $(ONLY)

# tests/slurm starts a SLURM of its own. Where it cannot be installed these tests are skipped, and say so.
slurm:
	@command -v slurmctld munged >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || { \
		timeout 120 apt-get -qq update && DEBIAN_FRONTEND=noninteractive timeout 300 \
		apt-get -qq install --no-install-recommends slurm-wlm munge; } >/dev/null 2>&1 || true

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules
	@# each stage's file has its input functions on top (docs/design.md): the one advice that is not followed
	@$(BIN)/snakemake --lint 2>&1 | awk '/^    \* / && !/Mixed rules and functions/ {print; bad = 1} \
		/^Lints for|^Congratulations/ {ran = 1} END {exit bad || !ran}'

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/Snakefile workflow/rules

# A site in site/: the pages of docs/, those that are made from the code, and the API reference.
docs: generated $(DOCS)/ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet
	@echo "Open site/index.html"

# config/README.md and whatever else is made from the code.
generated: setup
	$(BIN)/python docs/generate.py

$(DOCS)/ready: requirements-docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet -r requirements-docs.txt
	touch $(DOCS)/ready

# Snakemake asks conda for the platform even here; the tests' stand-in answers.
container: setup
	PATH=$(CURDIR)/tests/workflow/conda/bin:$(CURDIR)/$(BIN):$$PATH $(BIN)/snakemake --containerize > Dockerfile.new
	mv Dockerfile.new Dockerfile

# make bench QUICK=--quick: small sizes, to see that they run
bench: setup
	PYTHONPATH=workflow/scripts $(BIN)/python -m benchmarks $(QUICK)

clean:
	rm -rf results/demo site .pytest_cache .mypy_cache .ruff_cache
