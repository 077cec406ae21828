# Two commands matter: `make demo` and `make test`. Each sets itself up on a fresh machine: Python 3.11 or later, and a C
# compiler or none. `make help` lists the rest.
SHELL := /bin/bash

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
            $(if $(shell $(name) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(name))))
VENV ?= .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up
# Two files at a time, because the tests start servers of their own; a file's tests stay together and share theirs.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile
# The rooms that hold compiled modules, or stand on them alone: their suites run on the pure twins as well.
CORE := $(wildcard $(addprefix tests/,wire session metering guards ledger sql journal identity))
# Executions of each target of `make fuzz`.
RUNS ?= 2000000
# What tests compare with and no wheel brings.
POSTGRES_15 := /usr/lib/postgresql/15/bin/postgres
HAPROXY := /usr/sbin/haproxy
# What makes the compiled modules show a fuzzer where they go.
CLANG := /usr/bin/clang
# PostgreSQL's own tests, from the source package of the machine's Debian mirror.
POSTGRES_SUITE := build/postgres-suite
CREATE_CLUSTER := /etc/postgresql-common/createcluster.conf
# Drivers of other languages, and what was built with them (tests/drivers).
JDBC := /usr/share/java/postgresql.jar
GO_SOURCES := /usr/share/gocode/src/github.com
DRIVERS := tests/drivers
DRIVERS_BUILT := build/drivers
LOCK := $(BIN)/pip-compile --quiet --no-config --generate-hashes --allow-unsafe --strip-extras --no-header \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --annotation-style=line

.PHONY: redteam help demo test test-compiled test-pure postgres-tests lint types contracts build drivers others matrix fuzz bench lock schema clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 20

demo: build ## A scripted mass read through the proxy is stopped, on a real PostgreSQL
	$(BIN)/rowgate demo $(DEMO)

test: test-compiled test-pure ## All tests against a real server, then the core suites on the pure-Python twins

test-compiled: build others
	$(PYTEST) $(TESTS)

test-pure: build
	ROWGATE_PURE=1 $(PYTEST) $(CORE)

postgres-tests: build $(POSTGRES_15) $(POSTGRES_SUITE)/version ## PostgreSQL's own tests, directly and through the proxy
	$(PYTEST) tests/postgres

matrix: build others ## The matrix of cutting and denying in full: every length, many seeds, ten thousand cancels
	ROWGATE_MATRIX=$(or $(SEEDS),20) $(PYTEST) tests/matrix

redteam: build ## A hundred thousand forged people: what leaves is what the policy says
	$(PYTEST) tests/redteam

fuzz: build $(CLANG) ## Fuzz each target RUNS times: guided, on the compiled twins, sanitized; plant every bug. Takes hours
	PYTHONPATH=tests $(BIN)/python -m fuzz.run --compiled --runs $(RUNS)
	PYTHONPATH=tests $(BIN)/python -m fuzz.sanitized --runs $(RUNS)
	PYTHONPATH=tests $(BIN)/python -m fuzz.planted

lint: $(SETUP) ## Format and lint
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/hadolint Dockerfile

types: $(SETUP) ## Strict types
	$(BIN)/mypy

contracts: $(SETUP) ## The layers of ARCHITECTURE.md
	$(BIN)/lint-imports --no-cache

build: $(SETUP) ## Compile the hot path in place; without a compiler it stays pure Python
	$(BIN)/python setup.py -q build_ext --inplace

drivers: build others ## Every driver through the proxy, compared byte for byte
	$(PYTEST) tests/drivers

# What tests talk to and by: programs of other languages, servers that no wheel brings.
others: $(POSTGRES_15) $(HAPROXY) $(DRIVERS)/node/node_modules/pg $(DRIVERS_BUILT)/java/ByJdbc.class $(DRIVERS_BUILT)/by_go

bench: build $(POSTGRES_15) $(HAPROXY) ## Direct, PgBouncer, HAProxy and rowgate side by side
	@test -x /usr/sbin/pgbouncer || { $(call apt-install,pgbouncer); }
	$(BIN)/python benchmarks/run.py $(BENCH)

lock: $(SETUP) ## Resolve the lock files anew from pyproject.toml (UPGRADE=1: to the newest releases)
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' \
	    | $(LOCK) $(if $(UPGRADE),--upgrade) --all-extras --output-file requirements-dev.lock pyproject.toml -
	$(LOCK) --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml
	$(LOCK) --constraint requirements-dev.lock --only-build-deps --build-deps-for wheel \
	    --output-file requirements-build.lock pyproject.toml

schema: $(SETUP) ## Write the JSON Schema of the policy format
	schema=$$($(BIN)/rowgate policy schema) && printf '%s\n' "$$schema" > policies/rowgate.schema.json

clean: ## Remove what was built, and the virtual environment
	rm -rf $(VENV) build dist *.egg-info proxy/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find proxy -name '*.so' -delete
	find . -name __pycache__ -prune -exec rm -rf {} +

# Set-up, done again when what it rests on has changed.
$(SETUP): requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "rowgate needs Python 3.11 or later: none found in PATH; set PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "no virtual environment can be made; on Debian: apt install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# Debian's PostgreSQL 15, without the cluster its package would start. Where it cannot be had, tests that need it are skipped.
$(POSTGRES_15):
	@$(call apt-install,postgresql-common)
	@test ! -w $(CREATE_CLUSTER) || sed -i -E 's/^#?create_main_cluster.*/create_main_cluster = false/' $(CREATE_CLUSTER)
	@$(call apt-install,postgresql-15)

$(HAPROXY):
	@$(call apt-install,haproxy)

$(CLANG):
	@$(call apt-install,clang)

$(POSTGRES_SUITE)/version: tests/postgres/fetch_suite.py | $(SETUP) $(POSTGRES_15)
	$(BIN)/python $< $(POSTGRES_SUITE)

# A driver that cannot be had is left out, with a word, and so are its tests (which CI counts as failed).
$(DRIVERS)/node/node_modules/pg: $(DRIVERS)/node/package-lock.json
	@command -v npm >/dev/null || { $(call apt-install,nodejs npm); }
	@cd $(DRIVERS)/node && npm ci --silent && touch node_modules/pg || echo "rowgate: node-postgres cannot be installed" >&2

$(DRIVERS_BUILT)/java/ByJdbc.class: $(DRIVERS)/java/ByJdbc.java
	@command -v javac >/dev/null || { $(call apt-install,default-jdk-headless); }
	@test -e $(JDBC) || { $(call apt-install,libpostgresql-jdbc-java); }
	@javac -d $(@D) -cp $(JDBC) $< || echo "rowgate: the tests of pgjdbc cannot be built" >&2

$(DRIVERS_BUILT)/by_go: $(DRIVERS)/go/main.go
	@command -v go >/dev/null || { $(call apt-install,golang-go); }
	@test -e $(GO_SOURCES)/jackc/pgx/v4 -a -e $(GO_SOURCES)/lib/pq \
	    || { $(call apt-install,golang-github-jackc-pgx-v4-dev golang-github-lib-pq-dev); }
	@cd $(<D) && GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= go build -o ../../../$@ . \
	    || echo "rowgate: the tests of pgx and lib/pq cannot be built" >&2

# $(call apt-install,package): install a package of Debian's, or say what is missing and go on.
define apt-install
if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $(1) >/dev/null; \
else \
    false; \
fi || echo "rowgate: $(1) is missing and could not be installed (that takes apt-get and root): what needs it is left out" >&2
endef
