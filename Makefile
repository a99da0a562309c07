# Each target installs what it needs into .venv; a machine needs Python 3.11, pip, make and the package registry.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11
COMPILE = $(LOCK) --all-extras --group dev
HISTORIES = $(LOCK) --group histories --constraint requirements.lock
DEPLOY = $(LOCK) --group deploy --constraint requirements.lock
ARGS ?=
# What may come out differently with other versions: not decisions, which are functions of values, and no files of deploy/.
SAME = $(addprefix tests/unit/,backfill dashboards deploy plan rollout test_growth.py test_layers.py)
OLDEST ?= $(filter-out $(SAME),$(wildcard tests/unit/[a-z]*)) tests/integration/history tests/integration/backfills/test_lives.py
# Of the zones whose clocks are followed over ten years, one is enough here: the one that changes by half an hour.
FEWER = $(addprefix --deselect=tests/unit/registry/test_cron.py::test_years_are_the_same_by_a_second_implementation, \
	[Europe/Berlin] [America/New_York]) $(addprefix --ignore=tests/unit/observe/,test_log_table.py test_rules.py)
# The tests start many processes: they are quicker when Python keeps what it has compiled.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help install demo test servers check bench soak lock dashboards screenshots clean

help: ## Show the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: .venv/installed ## Install the project and its tools into .venv

# .venv has the newest versions that we know to work, .venv-oldest the oldest that we promise to work with.
.venv/installed: requirements.lock
.venv-oldest/installed: requirements-oldest.lock
%/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(filter %.lock,$^)
	$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Other people's migration histories, and what checks deploy/, go beside the rest: only the tests need them.
.venv/histories .venv/deploy: .venv/%: requirements-%.lock .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

demo: install ## Bring 200 tenant databases to head with a live daemon (ARGS="--tenants 50 --exit")
	$(BIN)/orchestrator demo $(ARGS)

test: install .venv/histories .venv/deploy .venv-oldest/installed servers ## Run the tests, real databases included (ARGS="-k slots")
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not alone" $(ARGS)
	$(BIN)/python -m pytest -m alone tests/acceptance
	.venv-oldest/bin/python -m pytest -n 3 --dist worksteal $(FEWER) $(OLDEST)

# Servers besides PostgreSQL that the tests start for themselves: a program, and the package that brings it.
PROGRAMS := mariadbd=mariadb-server-core mariadb=mariadb-client-core mariadb-dump=mariadb-client \
	pgbouncer=pgbouncer prometheus=prometheus

servers: ## Install MariaDB, PgBouncer and Prometheus for the tests, where they are missing, apt-get is there and we are root
	@PATH="$$PATH:/usr/sbin"; missing=; \
	for pair in $(PROGRAMS); do command -v "$${pair%%=*}" >/dev/null || missing="$$missing $${pair##*=}"; done; \
	if [ -z "$$missing" ]; then :; \
	elif ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ]; then echo "missing:$$missing; their tests will be skipped"; \
	else apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing \
		|| echo "could not be installed:$$missing; their tests will be skipped"; fi

check: install ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

dashboards: install ## Write deploy/grafana/dashboards, docs/metrics.md and docs/logs.md anew
	$(BIN)/python -m deploy.grafana.generate
	$(BIN)/python -m tests.documents

screenshots: install servers ## Play a rollout before Prometheus, and draw docs/dashboards from what it answers
	$(BIN)/python -m tests.dashboards --record tests/unit/dashboards/answers.json $(ARGS)

bench: install ## Measure, print the ratios, write docs/benchmarks.md
	$(BIN)/python -m tests.benchmarks $(ARGS)

soak: install ## Run what takes long, whole
	SOAK=1 $(BIN)/python -m pytest -m soak --timeout 3600 $(ARGS)

lock: install ## Resolve the dependencies anew into requirements*.lock
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --group fuzz --universal --output-file requirements.lock pyproject.toml
	$(HISTORIES) --universal --output-file requirements-histories.lock pyproject.toml
	$(DEPLOY) --universal --output-file requirements-deploy.lock pyproject.toml
	$(COMPILE) --resolution lowest-direct --output-file requirements-oldest.lock pyproject.toml

clean: ## Remove .venv and caches
	rm -rf .venv .venv-oldest .mypy_cache .pytest_cache .ruff_cache build dist
