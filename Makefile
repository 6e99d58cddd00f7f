# make playground   sets everything up and opens the page
# make test         sets everything up and runs all tests
# make mutants      changes the code in one place at a time and tells which changes no test notices; goes on where it was
# make evidence     measures the headline of docs/evidence.md (goes on where it was stopped); FULL=1: every row, for hours
PYTHON ?= python3
G4 := .venv/bin/python
G3 := .venv-gradio3/bin/python
WHOLE := --cfg 1 3 5 --steps 10 20 --parts modulations corrections others choices directions published ideas critics
PAGES := audition compare detect inspector options

.PHONY: playground test evidence lint mutants clean

playground: .venv/.playground
	$(G4) -m lib_noiseorder.playground

test: .venv/.test .venv-gradio3/.test lint
	sh tests/browser/ensure_browser.sh $(G4)
	$(G4) -m pytest -q
	@# What has to do with Gradio once more, as AUTOMATIC1111 1.10 has it.
	if [ -x $(G3) ]; then $(G3) -m pytest -q tests/webui tests/browser $(PAGES:%=tests/hosts/test_%.py); fi

evidence: .venv/.evidence
	$(G4) benchmarks/quality.py headline $(if $(FULL),$(WHOLE),--plot docs/gain.png)

lint: .venv/.test
	$(G4) -m ruff check .
	$(G4) -m ruff format --check .
	$(G4) -m mypy
	.venv/bin/lint-imports --no-cache

SHARE ?= 1
mutants: .venv/.test
	OMP_NUM_THREADS=1 nice -n 19 $(G4) benchmarks/mutants.py --share $(SHARE)

.venv/.playground: pyproject.toml
	$(PYTHON) -m venv .venv
	$(G4) -m pip install -q --disable-pip-version-check -e ".[playground]"
	touch $@

.venv/.evidence: .venv/.playground
	$(G4) -m pip install -q --disable-pip-version-check -e ".[playground,evidence]"
	touch $@

.venv/.test: .venv/.playground
	$(G4) -m pip install -q --disable-pip-version-check -e ".[playground,evidence,test]"
	touch $@

# Gradio 3.41 needs numpy 1, which has no build for Python 3.13 and later.
.venv-gradio3/.test: tests/requirements-gradio3.txt
	mkdir -p .venv-gradio3
	if $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
		$(PYTHON) -m venv .venv-gradio3 && $(G3) -m pip install -q --disable-pip-version-check -r $<; \
	else echo "Python 3.13 or later: the tests with Gradio 3.41 are left out"; fi
	touch $@

clean:
	rm -rf .venv .venv-gradio3 .mutants
