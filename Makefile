# `make help` lists the targets. PYTHON names the Python to build the environment with.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What requirements.lock is resolved for, as pyproject.toml says too
PYTHONS := 3.14 3.13 3.12 3.11
FITS := import sys; sys.exit("{}.{}".format(*sys.version_info) not in "$(PYTHONS)".split())
# The newest that runs: a version manager's shim may lie on the PATH and still not run
PYTHON ?= $(shell export PATH="$(OUTER_PATH)"; for name in $(PYTHONS:%=python%) python3 python; do \
	if $$name -c '$(FITS); import ensurepip' 2>/dev/null; then echo $$name; break; fi; done)
PLATFORMS := x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin
# Only a PYTHON that was named changes an environment that is there
OTHER_PYTHON = $(if $(filter-out file,$(origin PYTHON)),|| [ "$$($(VENV)/bin/python --version)" != "$$($(PYTHON) --version 2>&1)" ])
UV_VERSION := 0.13.9
VENV := $(CURDIR)/.venv
UV := $(CURDIR)/.tools/bin/uv
STAMP := $(VENV)/.installed
PINS := requirements.lock requirements-detectron2.txt
DETECTRON2_COMMIT := 02b5c4e295e990042a714712c21dc79b731e8833

OUTER_PATH := $(PATH)
export PATH := $(VENV)/bin:$(PATH)
# or else `python` would be the environment's own
setup install: export PATH := $(OUTER_PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0
# Images of containers often forbid bytecode; then every start, worker and test compiles all again
export PYTHONDONTWRITEBYTECODE :=

##@ Everyday

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: repro
repro: setup ## Set up, then run every stage that is out of date, up to the report
	@# DVC does not watch a dataset that lies elsewhere
	@python cli.py acquire --check >/dev/null || dvc repro --force --single-item acquire
	@dvc repro $(ARGS)
	@echo "Report: $(CURDIR)/outputs/report/index.html (python cli.py report --open)"

.PHONY: sweep
sweep: setup ## Search sweep.space of params.yaml, then renew the report
	@dvc repro pipeline/dvc.yaml:sweep
	@# DVC keeps a report only with all that it shows; before that it is a page on the sweep
	@if [ -e outputs/compare/comparison.json ]; then dvc repro --single-item --force report; \
	else python cli.py report; fi

.PHONY: doctor
doctor: setup ## Check environment, data, parameters and disk
	@python cli.py doctor

##@ Environment

# The stamp holds the checksums of the pins: a changed lock installs again, as does a PYTHON of another
# version; anything else is quick.
.PHONY: setup
setup: ## Build .venv from requirements.lock, checked by hash (quick when it is there)
	@pins=$$(cksum $(PINS)); \
	if [ "$$(cat $(STAMP) 2>/dev/null)" != "$$pins" ] || [ ! -x $(VENV)/bin/python ] $(OTHER_PYTHON); then \
		$(MAKE) install; printf '%s\n' "$$pins" > $(STAMP); \
	fi

.PHONY: install
install:
	@python="$(PYTHON)"; wanted="$(lastword $(PYTHONS)) to $(firstword $(PYTHONS))"; \
	if [ -z "$$python" ]; then \
		echo "Python $$wanted with venv is needed, none was found. Name one: make PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi; \
	if ! $$python -c '$(FITS)'; then \
		echo "Python $$wanted is needed, PYTHON=$$python is $$($$python --version 2>&1 | head -n 1 || true)" >&2; \
		exit 1; \
	fi; \
	python=$$($$python -c 'import sys; print(sys.executable)'); \
	if [ ! -x $(UV) ]; then \
		echo "uv $(UV_VERSION) into .tools"; \
		$$python -m venv .tools; \
		.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	fi; \
	rm -f $(STAMP); \
	keep=--allow-existing; \
	[ "$$($(VENV)/bin/python --version 2>&1)" = "$$($$python --version)" ] || keep=--clear; \
	echo "Environment into .venv: $$($$python --version), $$(grep -c '^[a-z].*==' requirements.lock) packages, about 7 GB"; \
	$(UV) venv --quiet $$keep --python $$python $(VENV)
	@$(UV) pip install --quiet --compile-bytecode --python $(VENV) --require-hashes -r requirements.lock
	@# tagged for Python 3.10 and of outdated metadata, but the very files of detectron2
	@$(UV) pip install --quiet --compile-bytecode --python $(VENV) --no-deps --require-hashes \
		--python-version 3.10 -r requirements-detectron2.txt
	@$(VENV)/bin/python -m compileall -q cli.py condinst pipeline  # for starts that may not write it

.PHONY: setup-gpu
setup-gpu: setup ## Replace detectron2 by its upstream, compiled with its CUDA ops (needs nvcc, git)
	@$(UV) pip install --python $(VENV) --no-deps --no-build-isolation \
		"detectron2 @ git+https://github.com/facebookresearch/detectron2@$(DETECTRON2_COMMIT)"

.PHONY: lock
lock: ## Resolve requirements.in into requirements.lock
	@$(UV) pip compile --quiet --universal --python-version $(lastword $(PYTHONS)) --generate-hashes \
		--no-emit-index-url --no-annotate --no-header requirements.in -o requirements.lock

# fvcore and antlr4 (of omegaconf) are published as source only
.PHONY: lock-check
lock-check: setup ## Resolve the lock for each Python on Linux and macOS: wheels there for all
	@for version in $(PYTHONS); do for platform in $(PLATFORMS); do \
		MACOSX_DEPLOYMENT_TARGET=14.0 $(UV) pip compile --quiet --no-header --no-annotate \
			--no-emit-index-url --python-version $$version --python-platform $$platform \
			--only-binary :all: --no-binary fvcore --no-binary antlr4-python3-runtime \
			requirements.lock > /dev/null; \
		echo "Python $$version on $$platform: resolves"; \
	done; done

##@ Development

# Workers side by side, each with one thread (tests/conftest.py); slow tests wait a lot: one more
WORKERS := --maxprocesses 8 --dist worksteal -n
CORES := $(shell getconf _NPROCESSORS_ONLN)
MORE := $(shell echo $$(($(CORES) + 1)))

.PHONY: test
test: setup ## Run the tests on all cores (ARGS="-k params")
	@python -m pytest $(WORKERS) $(MORE) -m "not smoke" $(ARGS)

.PHONY: quick
quick: setup ## Run the tests without the slow ones, those that failed last first
	@python -m pytest $(WORKERS) $(CORES) -m "not slow and not gpu" --failed-first $(ARGS)

.PHONY: smoke
smoke: setup ## Run every benchmark at its smallest size, with older instruction sets forced
	@python -m pytest $(WORKERS) $(CORES) -m smoke $(ARGS)

.PHONY: test-timm
test-timm: setup ## Train and evaluate one network of every family of timm (a quarter of an hour)
	@TIMM_FAMILIES=all python -m pytest -m slow tests/condinst/modeling/test_timm_families.py $(ARGS)

.PHONY: fuzz
fuzz: setup ## Try 2,000 mutants of every kind of file on the readers (an hour; FUZZ=200 for fewer)
	@FUZZ=$(or $(FUZZ),2000) python -m pytest -q -s tests/fuzz $(ARGS)

.PHONY: lint
lint: setup ## Check style, format and spelling
	@ruff check
	@ruff format --check
	@codespell

.PHONY: format
format: setup ## Put the code into its format
	@ruff check --fix
	@ruff format

.PHONY: types
types: setup ## Check the types
	@pyrefly check

.PHONY: imports
imports: setup ## Check the direction of imports
	@lint-imports

.PHONY: bench
bench: setup ## Measure this machine's speed, into outputs/bench (half an hour, idle; ARGS="--isa avx2")
	@python -m benchmarks $(ARGS)

.PHONY: bench-page
bench-page: setup ## Write docs/performance.md's tables from outputs/bench (ARGS=FILE.json for some)
	@python -m benchmarks.tables $(or $(ARGS),$(wildcard outputs/bench/*.json))

.PHONY: bench-data
bench-data: setup ## Prepare a JSON of COCO's size beside detectron2's loader (minutes, 4 GB of memory)
	@python -m benchmarks data_scale --set images=118287

.PHONY: clean
clean: ## Remove what runs left (outputs, data, .runs, caches); environment and MLflow's store stay
	@rm -rf outputs data .runs dvc_plots .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -not -path './.tools/*' -prune -exec rm -rf {} +
