# Two commands matter: `make demo` and `make test`; each does its own set-up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: build
build:
	$(BIN)/python setup.py -q build_ext --inplace
