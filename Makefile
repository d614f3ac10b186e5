# `make help` lists the targets. PYTHON names the Python 3.11 to build the environment with.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(firstword $(shell command -v python3.11 python3 python))
UV_VERSION := 0.13.9
VENV := $(CURDIR)/.venv
UV := $(CURDIR)/.tools/bin/uv
STAMP := $(VENV)/.installed
PINS := requirements.lock requirements-detectron2.txt
DETECTRON2_COMMIT := 02b5c4e295e990042a714712c21dc79b731e8833

export PATH := $(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0

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

# The stamp holds the hashes of the pins: a changed lock installs anew, anything else is quick.
.PHONY: setup
setup: ## Build .venv from requirements.lock, checked by hash (quick when it is there)
	@pins=$$(sha256sum $(PINS)); \
	if [ "$$(cat $(STAMP) 2>/dev/null)" != "$$pins" ] || [ ! -x $(VENV)/bin/python ]; then \
		$(MAKE) install; printf '%s\n' "$$pins" > $(STAMP); \
	fi

.PHONY: install
install:
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
		echo "Python 3.11 is needed, $${PYTHON:-$(PYTHON)} is not. Name one: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; \
	fi
	@if [ ! -x $(UV) ]; then \
		echo "uv $(UV_VERSION) into .tools"; \
		$(PYTHON) -m venv .tools; \
		.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	fi
	@echo "Environment into .venv: $$(grep -c '^[a-z].*==' requirements.lock) packages, about 6.5 GB"
	@$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
	@$(UV) pip install --quiet --python $(VENV) --require-hashes -r requirements.lock
	@# tagged for Python 3.10 and of outdated metadata, but the very files of detectron2
	@$(UV) pip install --quiet --python $(VENV) --no-deps --require-hashes --python-version 3.10 \
		-r requirements-detectron2.txt

.PHONY: setup-gpu
setup-gpu: setup ## Replace detectron2 by its upstream, compiled with its CUDA ops (needs nvcc, git)
	@$(UV) pip install --python $(VENV) --no-deps --no-build-isolation \
		"detectron2 @ git+https://github.com/facebookresearch/detectron2@$(DETECTRON2_COMMIT)"

.PHONY: lock
lock: ## Resolve requirements.in into requirements.lock
	@$(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate requirements.in -o requirements.lock

##@ Development

.PHONY: test
test: setup ## Run the tests (ARGS="-k params")
	@python -m pytest $(ARGS)

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
bench: setup ## Measure speed against the readable reference, into outputs/benchmarks.md (15 minutes)
	@python -m benchmarks $(ARGS)

.PHONY: bench-data
bench-data: setup ## Prepare a JSON of COCO's size beside detectron2's loader (minutes, 4 GB of memory)
	@python -m benchmarks.data_scale --images 118287

.PHONY: clean
clean: ## Remove what runs left (outputs, data, .runs, caches); environment and MLflow's store stay
	@rm -rf outputs data .runs dvc_plots .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -not -path './.tools/*' -prune -exec rm -rf {} +
