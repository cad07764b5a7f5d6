# make demo   sixteen outlines of a lung nodule, from nothing
# make test   the tests, from nothing; make test-slow the slow ones
# Both make or reuse .venv; the other targets are what CI runs.

PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
DIST ?= dist
LOCKED ?= .venv-locked
CONSTRAINTS ?= constraints.txt
SITE ?= site
FUZZ ?= runs/fuzz
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --constraint $(CONSTRAINTS)
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --no-header
VERSION = $$($(BIN)/python -c "import medseg_runtime; print(medseg_runtime.__version__)")
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 4
CT_SMALL = $$($(BIN)/python -c "from pydicom.data import get_testdata_file as f; print(f('CT_small.dcm', download=False))")

.PHONY: demo test test-slow test-ohif fuzz fuzz-guided bench bench-full lint types boundaries wheel docs docs-help test-lowest lock locked

demo: $(VENV)/.demo
	$(BIN)/medseg-infer examples/nodule-phantom.png --samples 16 --html --out results/phantom --force
	$(BIN)/medseg-infer "$(CT_SMALL)" --samples 16 --html --out results/ct-small --force
	@echo
	@echo "Open these pages in a browser, for example with xdg-open. They need no network:"
	@echo "  $(CURDIR)/results/phantom/report.html     a synthetic nodule"
	@echo "  $(CURDIR)/results/ct-small/report.html    a real CT crop without a nodule: see how the outlines disagree"

test: $(VENV)/.dev
	$(PYTEST) -m "not slow"

# What takes more than about ten seconds each: kills at every line, two processes, a smoke run of the benchmarks.
test-slow: $(VENV)/.dev
	$(PYTEST) -m slow

# The DICOM objects in the OHIF viewer. Needs chromium and npm, which fetches the viewer (49 MB) into the user's cache once.
test-ohif: $(VENV)/.dev
	$(BIN)/pytest -m ohif

# The runtime alone, in the lowest versions that pyproject.toml allows. The sampler's tests need torch.
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable ".[cpu,dicom]" "onnx>=1.18"
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python hypothesis pydicom-data pynetdicom pytest pytest-timeout scipy simpleitk
	$(LOWEST)/bin/python -m pytest tests/runtime --ignore tests/runtime/model/test_sampler.py

fuzz: $(VENV)/.dev
	$(BIN)/pytest tests/runtime/test_fuzz.py --mutations 40000

# More than 1,000,000 inputs, guided by coverage; stopped, the same command goes on. Findings and page are in $(FUZZ). Python 3.11 to 3.13.
fuzz-guided: $(VENV)/.fuzz
	$(BIN)/python -m benchmarks.robustness.fuzz --folder $(FUZZ) --out $(FUZZ)/page

# About 5 minutes, and about 30, on two quiet cores; with `BENCH="--even-if-busy"` also on others, and the page says so.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.latency --plan quick $(BENCH)

bench-full: $(VENV)/.dev
	$(BIN)/python -m benchmarks.latency --plan full $(BENCH)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

boundaries: $(VENV)/.dev
	$(BIN)/lint-imports

# Built twice, the second time from the source distribution, under another umask and in another time zone: the same bytes.
wheel: $(VENV)/.dev
	rm -rf $(DIST)/*.whl $(DIST)/again
	$(BIN)/python -m build --wheel --outdir $(DIST)
	$(BIN)/python tests/check_wheel.py $(DIST)/*.whl
	umask 077 && TZ=Asia/Tokyo $(BIN)/python -m build --outdir $(DIST)/again
	cmp $(DIST)/*.whl $(DIST)/again/*.whl

# The site, in $(SITE). No link may lead nowhere, and no page may fetch from another host.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --quiet --site-dir $(abspath $(SITE))
	$(BIN)/python tests/check_site.py $(SITE)

# Write docs/reference/cli/*.txt again, after an option has changed.
docs-help: $(VENV)/.dev
	$(BIN)/python docs/command_help.py

# Write locks/ again, after pyproject.toml or constraints.txt has changed: the hashes of what is installed, and the SBOM.
lock: $(VENV)/.dev
	$(BIN)/pip install --quiet uv
	$(COMPILE) --no-deps --no-emit-package torch constraints.txt --output-file locks/ci.txt
	$(COMPILE) --constraint constraints.txt locks/tools.in --output-file locks/tools.txt
	$(COMPILE) --constraint constraints.txt --extra cpu --extra dicom pyproject.toml --output-file locks/runtime.txt
	$(COMPILE) --constraint constraints.txt --extra cpu --extra node pyproject.toml --output-file locks/node.txt
	rm -rf $(LOCKED) && $(PYTHON) -m venv --without-pip $(LOCKED)
	$(BIN)/pip --python $(LOCKED)/bin/python install --quiet --require-hashes --no-deps --requirement locks/runtime.txt
	$(BIN)/pip --python $(LOCKED)/bin/python install --quiet --no-deps .
	sed "s/^dynamic = .*/version = \"$(VERSION)\"/" pyproject.toml >$(LOCKED)/pyproject.toml
	$(BIN)/cyclonedx-py environment --pyproject $(LOCKED)/pyproject.toml --output-reproducible \
		--output-file locks/medseglatdiff.cdx.json $(LOCKED)/bin/python

# Install what constraints.txt pins, each file checked by its hash. torch is not among them: its files differ from index to index.
locked: | $(BIN)/python
	$(BIN)/pip install --quiet --require-hashes --no-deps --requirement locks/ci.txt

# The stamps remember what is installed, so that a second run starts at once.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[cpu]"
	touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[docs]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[cpu,openvino,dicom,train,export,dev,bench]"
	touch $@ $(VENV)/.demo

# No extra: it has no wheel for every Python that is supported.
$(VENV)/.fuzz: $(VENV)/.dev
	$(BIN)/pip install --quiet atheris==3.0.0
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
