# Sunledger. `make run` opens the demo market, `make test` proves the product; the rest is for developers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
KILLS ?= 50
DAYS ?= 7
ONLY ?=
PO := locale/zh_Hans/LC_MESSAGES/django.po
WORLDS ?= 50000
SEED ?= 0

.PHONY: run test lint format bench soak crash settle-crash dirty-week frontend messages screens clean

$(VENV)/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

run: $(VENV)/installed  ## the demo market on http://localhost:$(PORT)
	$(BIN)/python manage.py demo --port $(PORT)

test: $(VENV)/installed  ## the whole suite; parts that need a server it lacks say so and skip
	bash tests/run.sh

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed  ## all benchmarks, or one with ONLY=name; writes build/bench.json
	$(BIN)/python -m tests.load.bench $(ONLY)

soak: $(VENV)/installed  ## WORLDS random worlds from SEED on, each held to all invariants; a failure names its seed
	WORLDS=$(WORLDS) SEED=$(SEED) $(BIN)/python -m pytest tests/properties/soak.py -v -x -n auto --dist worksteal

crash: $(VENV)/installed  ## kill -9 the exchange KILLS times under load and compare what survived
	$(BIN)/python -m tests.load.crash --kills $(KILLS)

settle-crash: $(VENV)/installed  ## kill -9 a settlement run KILLS times and compare with one that was left alone
	$(BIN)/python -m tests.load.settle_crash --kills $(KILLS)

dirty-week: $(VENV)/installed  ## DAYS of a SimBench week whose readings go missing, come late, wrong or twice, against the clean week
	$(BIN)/python -m tests.load.dirty_week --days $(DAYS)

frontend: $(VENV)/installed  ## rebuild frontend/dist (Node comes from a wheel)
	$(BIN)/python frontend/build.py

messages: $(VENV)/installed  ## collect, sort and compile translations (needs gettext); nothing new, nothing changes
	$(BIN)/python manage.py makemessages -l zh_Hans -i .venv -i var -i build -i frontend -i tests --no-obsolete --no-location --no-wrap
	msgcat --sort-output --no-wrap --output-file=$(PO) $(PO)  # by what is said: the order of files and tools changes
	sed -i '/^"POT-Creation-Date:/d' $(PO)
	$(BIN)/python manage.py compilemessages -i .venv

screens: $(VENV)/installed  ## a picture of every main screen at both widths into docs/screens (needs Chromium), or of ONLY=name
	$(BIN)/python -m tests.browser.screens $(ONLY)

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache
