# Everything a newcomer needs. Each target sets itself up in .venv; Python 3.11 or newer and make are all it takes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Four at least: tests wait for servers more than they compute.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 4); [ $$n -gt 4 ] && echo $$n || echo 4)
# Tests and benches start hundreds of processes, which would compile all of their sources each time.
unexport PYTHONDONTWRITEBYTECODE
BENCHES := append append-one chain extract forward project rebuild roundtrip drain checkin shutout query fanout life fanout-offline growth fairness volume soak storm
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What the dashboard is made of: its bundle is made anew when any of it has changed, and never else.
DASHBOARD := gateways/dashboard
BUNDLED := $(VENV)/bundled
NPM := $(BIN)/python -m gateways.dashboard.bundle npm run

.PHONY: help demo test test-cluster test-faults lint format bench figures install dashboard wheel docs screenshots reference lock clean
.DEFAULT_GOAL := help

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do printf '%-12s %s\n' "$$name" "$$text"; done

demo: install ## bring everything up, break it on purpose, show that nothing is lost
	$(BIN)/fleetlog demo

install: $(VENV)/installed $(BUNDLED) ## .venv with the fleetlog command, and the dashboard

dashboard: $(BUNDLED) ## the dashboard, bundled

wheel: $(VENV)/installed ## dist/fleetlog-*.whl, to install on other machines
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

docs: $(VENV)/installed-docs ## the documentation as HTML, in docs/_build
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs docs/_build

screenshots: install $(VENV)/installed-dev ## the pictures in docs/images, of the demonstration's fleet; needs Chromium
	$(BIN)/python -m docs.screenshots

reference: $(VENV)/installed ## the generated pages of docs/reference, from the code
	$(BIN)/python -m docs.generate

# With COVERAGE=1, what the parallel part reaches is shown; it takes half as long again, so it is for those who ask.
test: $(VENV)/installed-dev $(BUNDLED) ## every test, against real Postgres, NATS and Valkey
	@rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=15 --durations-min=5 \
	  -m "not serial and not faults"$(if $(COVERAGE), --cov --cov-report=term)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "serial and not faults" || [ $$? -eq 5 ]

# SEED=123 repeats one run of the harness; SEEDS=1000 makes it long, and FIRST_SEED=2001 makes it another.
export SEED SEEDS FIRST_SEED
test-faults: $(VENV)/installed-dev ## kill, stop, cut and confuse every part, and hold what is left against the invariants
	@rm -rf .faults
	$(BIN)/python -m pytest -n 2 -v -m "faults and not serial" tests/faults$(if $(SEED),/test_seeds.py)
	$(if $(SEED),,$(BIN)/python -m pytest -v -m "faults and serial" tests/faults || [ $$? -eq 5 ])

# What talks to no server is the same there; the markers say what else is left out, and why.
CLUSTER_TESTS ?= tests --ignore=tests/domain --ignore=tests/docs --ignore=tests/schema

test-cluster: $(VENV)/installed-dev ## the same tests against three NATS servers and a Postgres behind PgBouncer
	@command -v pgbouncer >/dev/null || { echo "PgBouncer is needed; on Debian and Ubuntu: apt-get install pgbouncer" >&2; exit 1; }
	FLEETLOG_TEST_TOPOLOGY=cluster $(BIN)/python -m pytest -n $(WORKERS) -m "not serial and not faults" $(CLUSTER_TESTS)
	FLEETLOG_TEST_TOPOLOGY=cluster $(BIN)/python -m pytest -n 2 --dist loadfile -m "serial and not faults" $(CLUSTER_TESTS) || [ $$? -eq 5 ]

lint: $(VENV)/installed-dev $(BUNDLED) ## format, lint, types, and who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -c 'import json, gateways.rest.openapi as o, gateways.rest.routes as r; print(json.dumps(o.build_document(r.ROUTES)))' > $(DASHBOARD)/openapi.json
	$(NPM) types
	$(NPM) typecheck
	$(NPM) lint

format: $(VENV)/installed-dev ## let ruff and Biome format and fix
	$(NPM) format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

figures: $(VENV)/installed-dev $(BUNDLED) ## how quick the dashboard is in Chromium, over a hundred thousand machines
	@$(BIN)/python -m tests.browser.figures

bench: $(VENV)/installed ## every bench in turn, one JSON object a line
	@for name in $(BENCHES); do $(BIN)/fleetlog bench $$name --json || exit 1; done

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes --only-binary :all: -r requirements.lock
	@! $(BIN)/python -m gateways.dashboard.bundle needs-node \
		|| $(PIP) install --require-hashes --only-binary :all: -r requirements-node.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(BUNDLED): $(shell find $(DASHBOARD) -name node_modules -prune -o -name static -prune -o -name schema.d.ts -o -name openapi.json -o -name __pycache__ -prune -o -type f -print) | $(VENV)/installed
	$(BIN)/python -m gateways.dashboard.bundle
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	$(PIP) install --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@

$(VENV)/installed-docs: requirements-docs.lock $(VENV)/installed
	$(PIP) install --require-hashes --only-binary :all: -r requirements-docs.lock
	@touch $@

# The build backend is locked with the rest, so that an install fetches nothing that is not named. Extras stay in the
# names: pip meets `coverage[toml]` of a dependency with the newest version there is, unless the lock names that too.
LOCK := printf 'hatchling\neditables\n' | $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" --upgrade pyproject.toml -

lock: | $(BIN)/python ## choose the newest versions that pyproject.toml allows
	$(PIP) install uv
	$(LOCK) -o requirements.lock
	$(LOCK) -c requirements.lock --group dev -o requirements-dev.lock
	$(LOCK) -c requirements.lock --group docs -o requirements-docs.lock
	$(BIN)/python -c 'from gateways.dashboard.bundle import NODE_REQUIREMENT; print(NODE_REQUIREMENT)' \
		| $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" - -o requirements-node.lock

clean: ## remove what the tools leave behind; .venv stays
	rm -rf docs/_build build dist .coverage .coverage.* coverage.xml .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .faults
