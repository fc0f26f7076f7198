# `make demo` and `make test` are all a newcomer needs; each makes its own environment.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check torture bench lock diagrams clean

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(READY)
	$(BIN)/mailtoken demo

# The tests against real mail servers need Debian's Dovecot. What is left out is said; .ci/run leaves nothing out.
PEERS ?= $(shell PATH="$$PATH:/usr/sbin" command -v dovecot)
# Those that play the pages need Debian's Chromium.
BROWSER ?= $(wildcard /usr/bin/chromium)

test: $(READY)
	$(if $(PEERS),,@echo "No Dovecot here: tests/peers is left out. Its packages are named in .ci/run.")
	$(if $(BROWSER),,@echo "No Chromium here: the journeys through the pages are left out. Its package is named in .ci/run.")
	$(BIN)/pytest -m 'not torture$(if $(PEERS),, and not peers)$(if $(BROWSER),, and not browser)'

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

torture: $(READY)
	$(BIN)/pytest -m torture --timeout 3600 -s -n 0

bench: $(READY)
	$(BIN)/python -m bench

diagrams: $(READY)
	$(BIN)/python -m diagrams

lock: $(READY)
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-header --no-emit-index-url \
	  --no-emit-find-links --all-extras --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
