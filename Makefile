# Everything a contributor does, by name. `make` alone prints the list.
# Needs only make, git and Python 3.11 or newer; each target sets up what it uses, once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# The Python that makes the virtual environments (make test PYTHON=python3.13).
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
BIN := $(VENV)/bin
NEW_VENV := .venv-new

# Options of `make new` and `make update-check`; see their comments.
DEST ?=
SRC ?= $(CURDIR)
REF ?= HEAD
DEFAULTS ?=
DATA_FILE ?=
PROJECT ?=
TO ?=
ARGS ?=
FULL ?=
# Options of `make diff`; see its comment.
BASE ?=
HEAD ?=

.PHONY: help
help: ## Print this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

# ----- Use the template --------------------------------------------------------------------------------

# DEST=folder      where the project is, or shall be (required)
# DEFAULTS=1       ask nothing; files that are there already are kept as they are
# DATA_FILE=x.yml  answers from a file; what it leaves out is asked (or its default taken)
# SRC=url          the template's address that the project records for its updates (default: this checkout)
# REF=v1.2.3       another version than the one checked out here
# ARGS='...'       passed to `copier copy` as they are
.PHONY: new
new: $(NEW_VENV)/.installed ## Generate a project: make new DEST=../my-app [DEFAULTS=1] [DATA_FILE=answers.yml] [ARGS=…]
	@DEST='$(DEST)' SRC='$(SRC)' REF='$(REF)' DEFAULTS='$(DEFAULTS)' DATA_FILE='$(DATA_FILE)' \
		.ci/new $(NEW_VENV)/bin/copier $(ARGS)

# PROJECT=folder   the project, a Git repository; it is not changed (required)
# TO=v1.2.3        another version of the template than its latest release
.PHONY: update-check
update-check: $(NEW_VENV)/.installed ## Tell what an update would do: make update-check PROJECT=../my-app [TO=v1.2.3]
	@[ -n '$(PROJECT)' ] || { echo 'update-check: which project? Say: make update-check PROJECT=../my-app' >&2; exit 2; }
	@$(NEW_VENV)/bin/python tools/update_check.py '$(PROJECT)' $(if $(TO),--to '$(TO)')

# ----- Check a change ----------------------------------------------------------------------------------

.PHONY: test
test: $(VENV)/.installed ## Run the tests that need no running servers
	$(PY) -m pytest -n auto -m 'not live' $(ARGS)

# BASE=rev   what to compare with: a commit, branch, tag or release (default: the newest release)
# HEAD=rev   what is compared (default: the working tree, uncommitted changes included)
# ARGS='…'   --quiet prints the summary alone, --profile NAME renders one profile; more in ARGS=--help
.PHONY: diff
diff: $(VENV)/.installed ## Show what generated projects gain and lose: make diff [BASE=v1.2.3] [HEAD=branch] [ARGS=--quiet]
	@$(PY) -m tests.review --base '$(BASE)' --head '$(HEAD)' $(ARGS)

# FULL=1 runs further cases too, repeats what is measured until the figures mean something, and records them in
# docs/measured.md. Three at a time on two cores: half of their time they wait for servers.
GATE := $(if $(FULL),,and not full)
.PHONY: test-live
test-live: $(VENV)/.installed ## Run the tests on real servers (first: .ci/install-tools --lab) [FULL=1]
ifeq ($(ARGS),)
	FULL='$(FULL)' $(PY) -m pytest -m 'live and not alone $(GATE)' -n 3 --dist loadfile --no-loadscope-reorder --verbose
	FULL='$(FULL)' $(PY) -m pytest -m 'live and alone $(GATE)' --verbose
else
	FULL='$(FULL)' $(PY) -m pytest -m live --verbose $(ARGS)
endif

.PHONY: lab-images
lab-images: $(VENV)/.installed ## Build the images that the live tests run, which otherwise happens when the first one is needed
	$(PY) -m tests.lab images

.PHONY: lab
lab: $(VENV)/.installed ## Bring up a staging and a production server with a project deployed, and say how to reach them
	@$(PY) -m tests.lab show

.PHONY: lab-down
lab-down: $(VENV)/.installed ## Remove them
	@$(PY) -m tests.lab hide

.PHONY: audit
audit: $(VENV)/.installed ## Let auditors measure servers made by the runbook, and write docs/audit.md (in the lab)
	$(PY) -m tests.lab audit

.PHONY: lint
lint: $(VENV)/.installed ## Check style, types, shell scripts and workflows of this repository
	.ci/lint

.PHONY: format
format: $(VENV)/.installed ## Format the Python code and fix what can be fixed safely
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

# ----- Refresh what is derived -------------------------------------------------------------------------

.PHONY: golden
golden: $(VENV)/.installed ## Write the golden projects anew; read their diff before committing
	$(PY) -m tests.golden

.PHONY: docs
docs: $(VENV)/.installed ## Write the generated parts of docs/ anew
	$(PY) -m docs.generate

.PHONY: pins
pins: $(VENV)/.installed ## Fill in the digests of images in extensions/pins.toml
	$(PY) extensions/update_pins.py

.PHONY: bench
bench: $(VENV)/.installed ## Measure how long a copy and an update take
	$(PY) -m tests.bench

# Hashes of every platform's files, one file for Python 3.11 to 3.14. Where packages come from is the machine's own
# setting and stays out of the files.
UV_COMPILE := $(CURDIR)/$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

.PHONY: lock
lock: ## Write requirements/*.txt anew from requirements/*.in (UPGRADE=1: with newer indirect dependencies)
	@[ -x $(PY) ] || { echo 'lock: making $(VENV) with uv alone'; $(PYTHON) -m venv $(VENV); }
	@uv=$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements/dev.in); \
		[ "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = "$${uv#uv==}" ] || $(PY) -m pip install --quiet "$$uv"
	cd requirements && $(UV_COMPILE) $(if $(UPGRADE),--upgrade) --output-file copier.txt copier.in
	cd requirements && $(UV_COMPILE) $(if $(UPGRADE),--upgrade) --constraint copier.txt --output-file dev.txt dev.in

# ----- Set up ------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(VENV)/.installed ## Make the virtual environment for tests and linters
	@echo 'Ready: $(VENV)'

.PHONY: tools
tools: ## Install the programs that are not on PyPI into .cache/tools (see .ci/install-tools --help)
	.ci/install-tools

.PHONY: clean
clean: ## Remove the virtual environments, the installed tools and every cache
	rm -rf $(VENV) $(NEW_VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -not -path './.git/*' -exec rm -rf {} +

$(VENV)/.installed: requirements/dev.txt
	@.ci/make-venv '$(PYTHON)' $(VENV) requirements/dev.txt

$(NEW_VENV)/.installed: requirements/copier.txt
	@.ci/make-venv '$(PYTHON)' $(NEW_VENV) requirements/copier.txt
