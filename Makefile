# All set-up lives here; a machine needs make, Python 3.10+ with its venv module, and pip's way to the package index.
PYTHON ?= python3
OUT    ?= demo
NB     ?=

TEST_BIN := .venv/bin
DEMO_BIN := .venv-demo/bin
BUILD    := settings.ini setup.py pyproject.toml
# Two test workers on two cores starve each other unless each keeps to one thread.
ONE_THREAD := OMP_NUM_THREADS=1 MPLBACKEND=Agg

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
unexport PYTHONPATH

.PHONY: help demo test test-tree test-lint test-docs test-notebooks test-python test-newest docs run prepare readme bench clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo [OUT=demo]      install the package alone and run pathlearn_demo; the report ends in $$OUT/report.html'
	@echo 'make test                 install the developers'"'"' tools and run every check (test-tree, -lint, -docs, -notebooks, -python)'
	@echo 'make test-newest          the quick tests under the newest torch, fastai and fastcore'
	@echo 'make docs                 make the site in _docs (needs Quarto)'
	@echo 'make run NB=nbs/x.ipynb   rerun a notebook, save its outputs, export it; ARGS=--all reruns the long cells too'
	@echo 'make prepare              export and clean all notebooks, write README.md and the side bar: do this before a commit'
	@echo 'make readme               write README.md from nbs/index.ipynb'
	@echo 'make bench                print what the speed table of the notebooks rests on'
	@echo 'make clean                remove the two environments and all that is built'
	@echo 'PYTHON=python3.12 chooses the Python that the environments are made with.'

# Two environments: the demo's has the run-time package alone with the newest fastai and fastcore, the tests' has nbdev 2,
# which bounds fastcore. A stamp in each remembers what it was made from.
define new_venv
@command -v $(PYTHON) > /dev/null || { echo 'found no $(PYTHON): name a Python 3.10 or newer, as in `make PYTHON=python3.12`'; exit 1; }
@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 10) or sys.exit("$(PYTHON) is Python %d.%d, pathlearn needs 3.10 or newer: name one, as in `make PYTHON=python3.12`" % v)'
@echo 'Installing into $(1) (a few minutes the first time)'
@$(PYTHON) -m venv $(1)
endef

.venv/installed: $(BUILD)
	$(call new_venv,.venv)
	@$(TEST_BIN)/python -m pip install -q -e '.[dev]'
	@touch $@

.venv-demo/installed: $(BUILD) $(shell find pathlearn -name "*.py")
	$(call new_venv,.venv-demo)
	@rm -rf build
	@$(DEMO_BIN)/python -m pip install -q .
	@touch $@

demo: .venv-demo/installed
	@MPLBACKEND=Agg $(DEMO_BIN)/pathlearn_demo --out '$(OUT)'

# One after the other even under `make -j`, quickest first; each says how long it took, and pytest's closing line comes last.
test: .venv/installed
	@for part in tree lint docs notebooks; do \
	    start=$$(date +%s); $(MAKE) --no-print-directory test-$$part || exit 1; \
	    echo "   $$part took $$(( $$(date +%s) - start )) s"; \
	done
	@$(MAKE) --no-print-directory test-python

test-tree: .venv/installed
	@echo '== do nbdev_export and nbdev_clean leave the tree unchanged?'
	@$(ONE_THREAD) $(TEST_BIN)/python .ci/check_clean.py

test-lint: .venv/installed
	@echo '== does ruff find unused names and traps? how large are the cells?'
	@$(TEST_BIN)/ruff check -q pathlearn tests .ci
	@$(TEST_BIN)/python .ci/cells.py

test-docs: .venv/installed
	@echo '== does every page of the site process, link and read well?'
	@$(ONE_THREAD) $(TEST_BIN)/python .ci/check_docs.py

test-notebooks: .venv/installed
	@echo '== do the notebooks pass?'
	@$(ONE_THREAD) $(TEST_BIN)/nbdev_test --n_workers 2 --timing

# The browser's tests wait for kernels most of the time, so they run beside the others, each file on one worker.
test-python: .venv/installed
	@echo '== do the tests pass?'
	@$(ONE_THREAD) $(TEST_BIN)/python -m pytest tests -n 2 --dist loadfile

# The run-time package alone, brought to the newest of everything that it rests on.
QUICK := tests/test_loop.py tests/test_verbs.py tests/test_old_files.py tests/test_stars.py
test-newest: .venv-demo/installed
	@$(DEMO_BIN)/python -m pip install -q --upgrade --upgrade-strategy eager 'torch!=2.13.0' torchvision fastai fastcore pytest
	@$(DEMO_BIN)/python -c 'import torch, fastai, fastcore; print("torch", torch.__version__, "fastai", fastai.__version__, "fastcore", fastcore.__version__)'
	@$(ONE_THREAD) $(DEMO_BIN)/python -m pytest $(QUICK)

# README.md is .ci/readme.py's: newer than its notebook, nbdev leaves it alone.
docs: .venv/installed
	@command -v quarto > /dev/null || { echo 'found no quarto: install it from https://quarto.org, nbdev makes the site with it'; exit 1; }
	@touch README.md
	@$(ONE_THREAD) PATH="$(CURDIR)/$(TEST_BIN):$$PATH" nbdev_docs --n_workers 2

run: .venv/installed
	@test -n '$(NB)' || { echo 'name the notebook, as in `make run NB=nbs/12_clusiam.ipynb`'; exit 1; }
	@MPLBACKEND= $(TEST_BIN)/python .ci/rerun.py $(ARGS) $(NB)
	@for nb in $(NB); do $(TEST_BIN)/nbdev_clean --fname $$nb; done
	@$(TEST_BIN)/nbdev_export

prepare: .venv/installed
	@$(TEST_BIN)/nbdev_clean
	@$(TEST_BIN)/nbdev_export
	@$(TEST_BIN)/python .ci/methods.py
	@$(TEST_BIN)/python .ci/sidebar.py
	@$(TEST_BIN)/python .ci/readme.py

readme: .venv/installed
	@$(TEST_BIN)/python .ci/readme.py

bench: .venv/installed
	@for script in tests/bench/bench_*.py; do echo "== $$script"; $(TEST_BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv .venv-demo build dist pathlearn.egg-info _proc _docs .pytest_cache
