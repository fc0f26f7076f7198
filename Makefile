# `make demo` and `make test` are all a newcomer needs; each makes its own environment.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := .venv-demo
DEMO_READY := $(DEMO)/.ready

# The tests start hundreds of processes, and each would compile the program again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check torture mutate bench lock audit sbom diagrams clean

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# The demo has an environment of its own: the other one has every development tool, and is three times as large.
$(DEMO_READY): requirements.lock pyproject.toml packaging/demo_requirements.py
	$(PYTHON) -m venv $(DEMO)
	$(PYTHON) packaging/demo_requirements.py >$(DEMO)/requirements.lock
	$(DEMO)/bin/pip install --disable-pip-version-check --no-deps --require-hashes -r $(DEMO)/requirements.lock
	$(DEMO)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(DEMO_READY)
	$(DEMO)/bin/mailtoken demo

# The last lines of the output count the tests that were left out: the thorough ones, and those that need a program which
# is missing. .ci/run leaves out none, and tries more examples, rounds and random inputs.
test: $(READY)
	$(BIN)/pytest $(PYTEST_OPTIONS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	git ls-files '*conftest.py' | xargs -n 1 $(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports

torture: $(READY)
	$(BIN)/pytest -m torture --timeout 3600 -s -n 0

mutate: $(READY)
	nice $(BIN)/python -m mutation

# `make bench growth saves`: these sections alone.
SECTIONS := $(if $(filter bench,$(firstword $(MAKECMDGOALS))),$(wordlist 2,99,$(MAKECMDGOALS)))

bench: $(READY)
	$(BIN)/python -m bench $(SECTIONS)

ifneq ($(SECTIONS),)
.PHONY: $(SECTIONS)
$(SECTIONS):
	@:
endif

diagrams: $(READY)
	$(BIN)/python -m diagrams

lock: $(READY)
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-header --no-emit-index-url \
	  --no-emit-find-links --all-extras --output-file requirements.lock pyproject.toml

audit: $(READY)
	$(BIN)/python packaging/dependency_audit.py

# The packages of an installation without the tools of development, as CycloneDX: sbom.json.
sbom: $(READY)
	$(PYTHON) -m venv --clear $(VENV)/installation
	sed -n 's/^\([A-Za-z0-9._-]*==[^ ;]*\).*/\1/p' requirements.lock > $(VENV)/pins.txt
	$(VENV)/installation/bin/pip install --quiet --disable-pip-version-check --constraint $(VENV)/pins.txt '.[postgres]'
	$(BIN)/cyclonedx-py environment $(VENV)/installation --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --output-file sbom.json

clean:
	rm -rf $(VENV) $(DEMO) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
