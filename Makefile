## make demo       the app on http://127.0.0.1:7860; installs what it needs first
## make test       linter and all tests; installs what they need first, a browser included where that is possible
## make lint       linter alone
## make clean      remove what tests and linter leave behind
## make distclean  remove the environment in .venv too
##
## Variables:
##   PYTHON=python3  the interpreter for .venv, 3.11 or newer: make demo PYTHON=python3.12
##   MODEL=          a model folder or Hub id for the demo instead of the shipped one: make demo MODEL=runs/mine
##   FACELIVENET_DATA  (environment) folder of real photographs; the tests that need them skip without it

PYTHON ?= python3
MODEL ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-input

export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
# Compiled modules are kept, whatever the caller's setting: the tests start many processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test lint browser transformers-tests clean distclean

help:
	@sed -n 's/^## \{0,1\}//p' Makefile

demo: $(VENV)/runtime
	$(BIN)/python app.py $(if $(MODEL),--model "$(MODEL)")

# Three processes for two cores, because many tests wait for a clock or a server. Each has one thread: with more threads
# than cores, threads wait for one another. The order of the files is in tests/conftest.py.
test: $(VENV)/development browser transformers-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The stamps: pip runs again only when a requirements file is newer than its stamp.
$(VENV)/runtime: requirements.txt | $(BIN)/pip
	@echo "Installing the app's packages into $(VENV): some minutes, with torch up to 6 GB"
	$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/development: requirements.txt requirements-dev.txt | $(BIN)/pip
	@echo "Installing all packages into $(VENV): some minutes, with torch up to 6 GB"
	$(INSTALL) -r requirements-dev.txt
	@touch $(VENV)/runtime $@

# Debian's python3 has no ensurepip until python3-venv is installed; its own pip can fill the environment instead.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is missing or older than 3.11: name a newer one, e.g. make PYTHON=python3.12" >&2; exit 1; }
	@echo "Making the environment $(VENV) with $$($(PYTHON) --version)"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); else \
	  $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip || \
	  { echo "no pip for $(VENV): apt-get install python3-venv, then run make again" >&2; exit 1; }; fi

# Never fails: without a browser its tests skip.
browser:
	@for name in chromium chromium-browser google-chrome; do \
	  if command -v $$name >/dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" = 0 ]; then root="env"; \
	elif sudo -n true 2>/dev/null; then root="sudo -n env"; \
	else root=""; fi; \
	if [ -n "$$root" ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium for the browser tests"; \
	  $$root apt-get update -qq; \
	  if $$root DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; then exit 0; fi; \
	fi; \
	echo "There is no Chromium and it cannot be installed: the browser tests will be skipped" >&2

# Never fails: without them tests/test_transformers_common.py skips. The source distribution of the installed release
# is the only one with transformers' own tests.
transformers-tests: $(VENV)/development
	@version=$$($(BIN)/python -c 'import importlib.metadata as of; print(of.version("transformers"))'); \
	folder=$(VENV)/transformers_source/$$version; \
	if [ -d "$$folder" ]; then exit 0; fi; \
	if $(BIN)/python -m pip download --quiet --disable-pip-version-check --no-input --no-deps --no-binary transformers \
	    --dest "$$folder.part" "transformers==$$version" && \
	  tar -xzf "$$folder.part"/*.tar.gz -C "$$folder.part" --strip-components=1 "transformers-$$version/tests"; then \
	  mv "$$folder.part/tests" "$$folder.part/transformers_tests" && rm "$$folder.part"/*.tar.gz && \
	  mv "$$folder.part" "$$folder"; \
	else rm -rf "$$folder.part"; echo "the source distribution of transformers cannot be downloaded: its tests will be skipped" >&2; fi

clean:
	rm -rf .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
