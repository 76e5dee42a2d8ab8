# Every target sets up what it needs by itself; a fresh machine needs git, make and Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
# A run never overwrites another, so each quickstart has its own folder: `make quickstart OUTPUT=runs/mine` names it.
OUTPUT ?= runs/quickstart-$(shell date +%Y%m%d-%H%M%S)
# Which tests: `make test SELECT=''` runs the slow ones too, `make test SELECT='-k corruption'` a few.
SELECT ?= -m "not slow"
WORKERS ?= 2

INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-oldest test-newest quality format docs release clean

help:
	@echo "make install      make $(VENV) with the package, editable, and the tested versions of what it needs"
	@echo "make quickstart   corpus, tokenizer, pre-training, fine-tuning and export, offline, in minutes on two cores"
	@echo "make test         the test suite: no network, no user settings, two processes"
	@echo "make test-oldest  the same with the lowest supported versions, make test-newest with the newest there are"
	@echo "make quality      lint, formatting and types, checked; the documentation built, where no link may lead nowhere"
	@echo "make format       lint and formatting, repaired"
	@echo "make docs         the documentation, into site/"
	@echo "make release      build, and check the wheel in a clean environment; uploads nothing (RELEASE.md)"
	@echo "make clean        remove $(VENV) and caches; runs/ is kept"

install: $(INSTALLED)

# Runs once, and again when the dependencies change.
$(INSTALLED): pyproject.toml setup.cfg constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "electra-rtd needs Python 3.11 or newer; '$(PYTHON)' is not (name another: make PYTHON=python3.12 ...)" >&2; exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	"$(VENV)/bin/python" -m pip install -c constraints.txt -e ".[demo,test,quality,docs,release]"
	@touch $@

quickstart: $(INSTALLED)
	"$(VENV)/bin/electra-rtd" quickstart --output-dir "$(OUTPUT)"

# The tests see neither the user's Hub token and cache nor packages outside the environment.
test: $(INSTALLED)
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	env -u PYTHONPATH -u HF_TOKEN -u HF_HUB_CACHE -u HF_DATASETS_CACHE \
		HF_HOME="$$home" HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 PYTHONNOUSERSITE=1 OMP_NUM_THREADS=1 \
		"$(VENV)/bin/python" -m pytest -n $(WORKERS) $(SELECT)

# Environments of their own, made anew each time: what is newest changes.
test-oldest test-newest: test-%:
	rm -rf ".venv-$*"
	"$(PYTHON)" -m venv ".venv-$*"
	".venv-$*/bin/python" -m pip install $(if $(filter oldest,$*),-c constraints-oldest.txt) -e ".[demo,test,quality,docs,release]"
	@touch ".venv-$*/.installed"
	$(MAKE) test VENV=".venv-$*" INSTALLED=".venv-$*/.installed" SELECT='$(SELECT)' WORKERS=$(WORKERS)

release: $(INSTALLED)
	"$(VENV)/bin/python" scripts/check_release.py

# Of no moment here: what the theme says of its successor.
MKDOCS := NO_MKDOCS_2_WARNING=1 "$(VENV)/bin/python" -m mkdocs build --strict

quality: $(INSTALLED)
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/ruff" format --check .
	"$(VENV)/bin/mypy"
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(MKDOCS) --site-dir "$$folder"

format: $(INSTALLED)
	"$(VENV)/bin/ruff" check --fix .
	"$(VENV)/bin/ruff" format .

docs: $(INSTALLED)
	$(MKDOCS)
	@echo "the documentation is in site/index.html"

clean:
	rm -rf "$(VENV)" .venv-oldest .venv-newest build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
