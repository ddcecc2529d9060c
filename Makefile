.DEFAULT_GOAL := help
.PHONY: lake-age help setup check lint-charts format types test test-unit test-all test-apiserver test-spark test-system simulation mutation cluster-up cluster-down e2e e2e-smoke demo bench bench-operator bench-query images screenshots dashboards charts docs lock lock-images pin-images sbom pip-audit version clean

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
PACKAGES := common/src schemas/src ingest/src jobs/src operator/src query/src cli/src
PYTEST_ARGS ?=
WORKERS ?= 2
# One file runs in one process; tests/conftest.py puts the longest files first.
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder
E2E_PYTEST := $(BIN)/python -m pytest -p no:randomly
# Deletion comes last.
E2E := $(addprefix tests/e2e/test_,$(addsuffix .py,running query security kafka_users monitoring dashboards kills promises faults changes deletion))
DOCKER ?= docker
K2_IMAGE_PREFIX ?= ghcr.io/k2-market-data
IMAGES := operator ingest jobs query
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# What a build is told when it is set here: other base images, another package index, another Maven repository.
BUILD_ARGS = $(foreach name,PYTHON_IMAGE SPARK_IMAGE PIP_INDEX_URL K2_MAVEN,$(if $($(name)),--build-arg $(name)))

##@ Run

demo: setup ## Three simulated feeds, injected faults, one audit (LIVE=1: real exchanges)
	$(BIN)/python -m k2.cli.demo $(if $(LIVE),--live)

bench: setup ## Measure K2 and its baselines, and write docs/benchmarks.md (bench lake-age: tables that are years old)
	$(BIN)/python -m bench $(filter lake-age,$(MAKECMDGOALS)) $(BENCH_ARGS)

lake-age: # names the benchmark after `bench`
	@$(if $(filter bench,$(MAKECMDGOALS)),:,$(MAKE) --no-print-directory bench lake-age)

bench-operator: setup ## Measure the operator with 500 feeds on an API server of KUBEBUILDER_ASSETS
	$(BIN)/python -m bench operator

bench-query: setup ## Measure the HTTP API on 20 million trades, next to DuckDB, ClickHouse and PyIceberg
	$(BIN)/python -m bench http_api

images: ## Container images of the operator, the ingest, the jobs and the API
	for image in $(IMAGES); do \
		$(DOCKER) build --file $$image/Dockerfile --tag $(K2_IMAGE_PREFIX)/$$image:$(VERSION) $(BUILD_ARGS) \
			--build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD || echo unknown) . || exit; \
	done

##@ Cluster

cluster-up: setup ## A Kubernetes cluster on this machine, with K2, two simulated exchanges and their feeds
	$(BIN)/python -m cluster up

cluster-down: setup ## Delete it
	$(BIN)/python -m cluster down

e2e-smoke: cluster-up ## Feeds Ready, Gold equals the simulators, the audit, a kill, a deletion
	$(E2E_PYTEST) -m "e2e and smoke" $(E2E) $(PYTEST_ARGS) || { $(BIN)/python -m cluster diagnostics; exit 1; }

e2e: cluster-up ## Every test of tests/e2e
	$(E2E_PYTEST) -m e2e $(E2E) $(PYTEST_ARGS) || { $(BIN)/python -m cluster diagnostics; exit 1; }

##@ Develop

setup: $(VENV)/.installed ## Virtual environment, Python packages, Java, Java archives, archives of their classes

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(BIN)/python -m k2.cli.commands.doctor
	$(BIN)/python -m k2.cli.embedded.class_archives
	touch $@

check: setup ## Format, lint, types, import directions, YAML, docs links, the CRD, charts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/check_house.py
	$(BIN)/yamllint --strict manifests mkdocs.yml charts/*/Chart.yaml charts/*/values.yaml charts/*/ci
	$(BIN)/mkdocs build --quiet --strict
	$(BIN)/python -m k2.query.api.openapi | diff docs/reference/openapi.json -  # differs: ... > docs/reference/openapi.json
	$(BIN)/k2 crd | diff manifests/crds/exchangefeeds.yaml -  # differs: k2 crd > manifests/crds/exchangefeeds.yaml
	for feed in manifests/samples/*.yaml; do $(BIN)/k2 validate $$feed || exit; done
	$(BIN)/python charts/readme.py --check
	$(BIN)/zizmor --offline --quiet .github
	$(MAKE) --no-print-directory lint-charts

lint-charts:
	@PATH="$$PATH:$$KUBEBUILDER_ASSETS"; if ! command -v helm > /dev/null; then \
		echo "Charts are not linted: helm is neither in PATH nor in KUBEBUILDER_ASSETS"; exit; \
	fi; for values in charts/*/ci/*.yaml; do \
		helm lint --strict --quiet --kube-version 1.34.0 $${values%/ci/*} --values $$values || exit; \
	done

charts: setup ## What of the charts is made from the CRD, the operator's settings and their values
	$(BIN)/python charts/readme.py

format: setup ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-unit: setup ## Tests without JVM, cluster or API server
	$(PYTEST) -m "not spark and not system and not faults and not apiserver and not e2e and not slow" $(PYTEST_ARGS)

test: setup ## Unit, contract, API server, Spark and system tests, but those marked slow
	$(PYTEST) -m "not e2e and not slow" $(PYTEST_ARGS)

test-all: setup ## The same with those marked slow: every fault, every timeout
	$(PYTEST) -m "not e2e" $(PYTEST_ARGS)

test-apiserver: setup ## The operator against etcd and kube-apiserver of KUBEBUILDER_ASSETS
	$(PYTEST) -m apiserver $(PYTEST_ARGS)

test-spark: setup ## Transforms, commits, audit and maintenance on Spark
	$(PYTEST) -m spark $(PYTEST_ARGS)

test-system: setup ## The embedded platform, and what happens when parts of it fail
	$(PYTEST) -m "system or faults" $(PYTEST_ARGS)

simulation: setup ## Simulate histories of the ingest under a virtual clock (SEEDS: "7 200-5199"; TRACE=1: all that happens)
	WORKERS=$(WORKERS) $(BIN)/python -m tests.simulation $(or $(SEEDS),0-199) $(if $(TRACE),--trace)

mutation: setup ## Change the pure cores one place at a time: their unit tests must fail (MODULES: parts of their paths)
	WORKERS=$(WORKERS) $(BIN)/python -m tests.mutation $(MODULES)

screenshots: setup ## docs/images/console-*.png, of the platform in the folder DATA or of made-up tables, with Chromium
	$(BIN)/python -m tests.console.screenshots $(DATA)

dashboards: setup ## docs/images/grafana-*.png, of what make cluster-up made, with the Grafana in K2_GRAFANA and Chromium
	K2_PICTURES=docs/images $(BIN)/python -m pytest -p no:randomly -m e2e tests/e2e/test_dashboards.py

docs: setup ## Build the site into site/
	$(BIN)/mkdocs build --strict

lock: ## Pin every package again, with hashes
	$(BIN)/uv pip compile pyproject.toml --group dev --group docs --extra cli --extra operator --universal --generate-hashes \
		--no-annotate --no-header --quiet --output-file requirements.lock --exclude-newer "$(shell date -u -d '7 days ago' +%F)"
	$(MAKE) --no-print-directory lock-images

lock-images: ## What of that each image needs
	for image in $(IMAGES); do \
		extra=$$(test $$image = query && echo api || echo $$image); \
		$(BIN)/uv pip compile pyproject.toml --extra $$extra --constraints requirements.lock --universal --generate-hashes \
			--no-emit-package pyspark --no-annotate --no-header --quiet --output-file $$image/requirements.lock || exit; \
	done

##@ Release

pin-images: setup ## Write the digests of the charts' images, as their registries give them (PIN: names of only some)
	$(BIN)/python -m release.pin_images $(PIN)
	$(BIN)/python charts/readme.py

sbom: setup ## What each image holds, with licences: dist/sbom/*.cdx.json (CycloneDX) and licences.csv
	DOCKER=$(DOCKER) K2_IMAGE_PREFIX=$(K2_IMAGE_PREFIX) $(BIN)/python -m release.sbom

pip-audit: setup ## Vulnerabilities reported for the Python packages of the images
	for image in $(IMAGES); do \
		$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off --requirement $$image/requirements.lock || exit; \
	done

version: # of pyproject.toml
	@echo $(VERSION)

clean: ## Remove what was built and measured here; data in .k2 stays
	rm -rf $(VENV) .demo site build dist .pytest_cache .mypy_cache .ruff_cache

##@ Help

help: ## This
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
