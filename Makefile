# make search    set up everything and run the main job: a search over structures, on real text, in minutes
# make test      set up everything the tests need, and run them
# make check     style, types and formatting

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := space trainers storage search dashboards einsearch tests benchmarks

.PHONY: search test check clean

search: $(VENV)/installed
	$(BIN)/einsearch search

test: $(VENV)/installed-dev check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

check: $(VENV)/installed-dev
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/ruff format --quiet --check $(SOURCES)
	$(BIN)/mypy

# torch comes first and at its pinned version, so that no other package chooses one for it
$(VENV)/installed: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) $$(grep '^torch==' constraints.txt)
	$(INSTALL) --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
