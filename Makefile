# Everything on a fresh machine with Python ≥ 3.11, pip and make:
#   make demo   environment, installation, then the whole pipeline on the embedded data set
#   make test   environment, installation with test extras, then checks and tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: install install-test demo test test-slow check clean

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'snnkd needs Python 3.11 or newer, found ' + sys.version.split()[0])"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable ".[onnx]"
	PIP_CONSTRAINT=constraints.txt $(BIN)/snnkd doctor --install lava
	mkdir -p .links && ln -sfn .. .links/snnkd
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable ".[gpu,onnx,simulators,test]"
	PIP_CONSTRAINT=constraints.txt $(BIN)/snnkd doctor --install sinabs
	touch $@

demo: install
	$(BIN)/snnkd train digits
	$(BIN)/snnkd export --target loihi2
	$(BIN)/snnkd validate --target loihi2 --samples 64
	$(BIN)/snnkd energy
	$(BIN)/snnkd report

test: install-test check
	$(BIN)/python -m pytest

test-slow: install-test
	$(BIN)/python -m pytest -m slow

check: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .links build *.egg-info
