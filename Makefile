.DEFAULT_GOAL := help
.PHONY: help setup check format types test test-unit test-apiserver test-spark test-system demo bench docs lock clean

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
PACKAGES := schemas/src ingest/src jobs/src operator/src query/src cli/src
PYTEST_ARGS ?=

##@ Run

demo: setup ## Three simulated feeds, two accidents, one audit (LIVE=1: the exchanges themselves)
	$(BIN)/python -m k2.cli.demo $(if $(LIVE),--live)

bench: setup ## Measure K2 beside its rivals and write docs/benchmarks.md
	$(BIN)/python -m bench

##@ Develop

setup: $(VENV)/.installed ## Virtual environment, Python packages, Java, Java archives

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(BIN)/python -m k2.cli.machine
	touch $@

check: setup ## Format, lint, types, import directions, YAML, docs links, the CRD
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports --no-cache
	$(BIN)/yamllint --strict manifests mkdocs.yml
	$(BIN)/mkdocs build --quiet --strict
	$(BIN)/k2 crd | diff manifests/crds/exchangefeeds.yaml -  # differs: k2 crd > manifests/crds/exchangefeeds.yaml
	for feed in manifests/samples/*.yaml; do $(BIN)/k2 validate $$feed || exit; done

format: setup ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## All tests: unit, contract, API server, Spark, system, faults
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-unit: setup ## Only what needs no JVM: seconds
	$(BIN)/python -m pytest -m "not spark and not system and not faults and not apiserver" $(PYTEST_ARGS)

test-apiserver: setup ## The operator against etcd and kube-apiserver of KUBEBUILDER_ASSETS
	$(BIN)/python -m pytest -m apiserver $(PYTEST_ARGS)

test-spark: setup ## Transforms, commits, audit and maintenance on Spark
	$(BIN)/python -m pytest -m spark $(PYTEST_ARGS)

test-system: setup ## The embedded platform, whole, and what happens when it is broken
	$(BIN)/python -m pytest -m "system or faults" $(PYTEST_ARGS)

docs: setup ## Build the site into site/
	$(BIN)/mkdocs build --strict

lock: ## Pin every package again, with hashes
	$(BIN)/uv pip compile pyproject.toml --group dev --group docs --extra cli --extra operator --universal --generate-hashes \
		--no-annotate --no-header --quiet --output-file requirements.lock --exclude-newer "$(shell date -u -d '7 days ago' +%F)"

clean: ## Remove what was built and measured here; data in .k2 stays
	rm -rf $(VENV) .demo site build dist .pytest_cache .mypy_cache .ruff_cache

##@ Help

help: ## This
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
