# make playground   sets everything up and opens the page
# make test         sets everything up and runs the tests, in a few minutes
# make test-all     those and what is slow: long fuzzing, the timing of imports, the quality of the playground's models
# make mutants      changes the code in one place at a time and tells which changes no test notices; goes on where it was
# make evidence     measures what docs/evidence.md shows and fills in its table and picture (goes on where it was
#                   stopped); FULL=1: every row, for a day, into results/every-row.md
PYTHON ?= python3
PY := .venv/bin/python
G4 := .venv-gradio4/bin/python
G3 := .venv-gradio3/bin/python
WHOLE := --cfg 1 3 5 --steps 10 20 --parts modulations corrections others choices directions published ideas critics
# What Gradio has a part in; the rest is the same with each. The playground's page is opened with Gradio 6 only.
PLAYGROUND := tests/browser/test_playground.py
PAGES := $(filter-out $(PLAYGROUND), $(wildcard tests/browser/test_*.py)) $(patsubst %,tests/webui/test_%.py,accordion api auth inspector options sheet) tests/hosts/test_sending.py
# One more than two cores: a test of a page waits for most of its time.
WORKERS ?= 3
PYTEST := -m pytest -q -n $(WORKERS) --dist worksteal -p no:randomly

.PHONY: playground test test-all evidence lint mutants clean

playground: .venv/.playground
	$(PY) -m lib_noiseorder.playground

test: .venv/.test .venv-gradio4/.test .venv-gradio3/.test lint
	sh tests/browser/ensure_browser.sh $(PY)
	$(PY) $(PYTEST) -m "not slow"
	@# The page once more with the Gradio that Forge has, and with that of AUTOMATIC1111 1.10.
	if [ -x $(G4) ]; then $(G4) $(PYTEST) -m "not slow and not once" $(PAGES); fi
	if [ -x $(G3) ]; then $(G3) $(PYTEST) -m "not slow and not once" $(PAGES); fi

test-all: test
	$(PY) $(PYTEST) -m slow
	for python in $(G4) $(G3); do if [ -x $$python ]; then \
		$$python $(PYTEST) $(PLAYGROUND) && $$python $(PYTEST) -m once $(PAGES) || exit 1; fi; done
	@# Nothing depends on the order of the tests.
	$(PY) -m pytest -q -n $(WORKERS) -m "not slow" tests/core tests/hosts tests/webui

evidence: .venv/.evidence
	mkdir -p results
	$(PY) benchmarks/quality.py headline $(if $(FULL),$(WHOLE)) > results/$(if $(FULL),every-row,headline).md
	$(if $(FULL),,$(PY) benchmarks/tables.py keep headline results/headline.md && $(PY) benchmarks/tables.py)

lint: .venv/.test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache

SHARE ?= 1
mutants: .venv/.test
	OMP_NUM_THREADS=1 nice -n 19 $(PY) benchmarks/mutants.py --share $(SHARE)

.venv/.playground: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PY) -m pip install -q --disable-pip-version-check -e ".[playground]"
	touch $@

.venv/.evidence: .venv/.playground
	$(PY) -m pip install -q --disable-pip-version-check -e ".[playground,evidence]"
	touch $@

.venv/.test: .venv/.playground
	$(PY) -m pip install -q --disable-pip-version-check -e ".[playground,evidence,test]"
	touch $@

# Gradio 3.41 needs numpy 1, which has no build for Python 3.13 and later; Gradio 4.40 a pydantic that has none for 3.14.
.venv-gradio3/.test: LATEST := 12
.venv-gradio4/.test: LATEST := 13
.venv-gradio%/.test: tests/requirements-gradio%.txt
	mkdir -p $(@D)
	if $(PYTHON) -c 'import sys; sys.exit(sys.version_info > (3, $(LATEST), 99))'; then \
		$(PYTHON) -m venv $(@D) && $(@D)/bin/python -m pip install -q --disable-pip-version-check -r $<; \
	else echo "Python later than 3.$(LATEST): the tests with Gradio $* are left out"; fi
	touch $@

clean:
	rm -rf .venv .venv-gradio3 .venv-gradio4 .mutants
