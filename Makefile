# make search    set up everything and run the main job: a search over structures, on real text, in minutes
# make test      set up everything the tests need, and run them
# make faults    the long part of the fault suite: hundreds of kills, clusters that lose machines (about 20 minutes)
# make check     style, types and formatting

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
PROCESSES := $(shell $(PYTHON) -c 'import os; print(min(6, (os.cpu_count() or 1) + 2))')# many tests wait for processes of their own
SOURCES := space trainers storage search dashboards einsearch tests benchmarks

.PHONY: search test suite faults check browser clean

search: $(VENV)/installed
	$(BIN)/einsearch search

# the checks and the tests side by side: tests often wait
test: $(VENV)/installed-dev browser
	@$(MAKE) --no-print-directory --jobs=2 check suite

suite:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

faults: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/faults tests/search/faults_workers.py -o python_files='test_*.py faults_*.py'

check: $(VENV)/installed-dev
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/ruff format --quiet --check $(SOURCES)
	$(BIN)/mypy

# the web page is tested in a real browser: Debian's chromium, installed where that is possible, missed aloud where not
browser:
	@command -v chromium > /dev/null || command -v chromium-browser > /dev/null || command -v google-chrome > /dev/null \
	|| { [ "$$(id -u)" = 0 ] && apt-get install --yes --quiet chromium > /dev/null 2>&1; } \
	|| echo "NOTE: no chromium here, and it could not be installed: no page is looked at (Debian: apt-get install chromium)"

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
