# Everything is installed into .venv; nothing outside this folder changes. `make help` lists the targets.

PYTHON ?= python3
JOBS ?= 2
PYTEST_ARGS ?=

VENV := .venv
ONEDL_VENV := .venv-onedl
ONEDL := onedl-mmengine==0.10.12 onedl-mmsegmentation==1.4.2
PIP_FLAGS := -qq --disable-pip-version-check

# One torch thread per test process: more only get into each other's way.
PYTEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n $(JOBS) $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-long test-onedl lint picture clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo 'Variables: PYTHON (to make .venv with, 3.11 or newer), JOBS (test processes), PYTEST_ARGS'

install: $(VENV)/.installed ## Make .venv with the tested versions, and this package in it

# The stamps are touched last, so an interrupted installation is taken up again by the next call.
$(VENV)/.installed: requirements.txt setup.py
	@$(call make_venv,$(VENV))
	@echo 'Installing requirements.txt into $(VENV); downloads take some minutes the first time'
	@$(VENV)/bin/pip install $(PIP_FLAGS) -r requirements.txt
	@$(call install_package,$(VENV))
	@echo 'Installed. Use $(VENV)/bin/python, or `source $(VENV)/bin/activate`'

# mmcv-lite asks for mmengine, whose files the fork would share, so the three go in without dependencies.
$(ONEDL_VENV)/.installed: requirements.txt setup.py Makefile
	@$(call make_venv,$(ONEDL_VENV))
	@echo 'Installing requirements.txt into $(ONEDL_VENV), with $(ONEDL) for the originals'
	@grep -vE '^(mmengine|mmsegmentation|mmcv-lite)==' requirements.txt > $(ONEDL_VENV)/requirements.txt
	@$(ONEDL_VENV)/bin/pip install $(PIP_FLAGS) -r $(ONEDL_VENV)/requirements.txt
	@$(ONEDL_VENV)/bin/pip install $(PIP_FLAGS) --no-deps --no-build-isolation $(ONEDL) \
		"$$(grep -E '^mmcv-lite==' requirements.txt)"
	@$(call install_package,$(ONEDL_VENV))

demo: install ## Train the classifier, then CSRM, on synthetic pictures, and compare them
	$(VENV)/bin/python tools/demo.py

test: install ## Run the tests, less those that take minutes
	$(call PYTEST,$(VENV)) -m 'not long'

test-long: install ## Run all tests
	$(call PYTEST,$(VENV))

test-onedl: $(ONEDL_VENV)/.installed ## Run the tests on the onedl forks of MMEngine and MMSegmentation
	$(call PYTEST,$(ONEDL_VENV)) -m 'not long'

lint: install ## Check style, spelling and the order of the packages
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell
	$(VENV)/bin/python docs/architecture.py --check

picture: install ## Draw docs/architecture.svg again, after imports have changed
	$(VENV)/bin/python docs/architecture.py

clean: ## Remove caches and build products (not .venv, data, work_dirs)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

define make_venv
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo 'error: $(PYTHON) is not Python 3.11 or newer (or not there); say `make PYTHON=/path/to/python3`' >&2; exit 1; }; \
	echo 'Making $(1)'; $(PYTHON) -m venv $(1)
endef

define install_package
$(1)/bin/pip install $(PIP_FLAGS) --no-deps --no-build-isolation -e . && touch $(1)/.installed
endef
