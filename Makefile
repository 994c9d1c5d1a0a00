# Two commands matter: `make demo` opens the app, `make test` checks everything.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint format browser doctor bench bench-capture bench-gpu bench-video bench-video-gpu train-video \
	bench-tracking train-tracking parity train-ui clean

VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := app.py apps core plugins tests
HAS_GPU = $(shell nvidia-smi -L >/dev/null 2>&1 && echo yes)

# Idle OpenMP workers sleep instead of spinning: two cores are enough.
export OMP_WAIT_POLICY := passive
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Modules are compiled when they are first imported, instead of all of them, most of which never are.
export PIP_NO_COMPILE := 1

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 18

setup: $(VENV)/.dev  ## make .venv with everything that development needs

demo: $(VENV)/.app $(if $(HAS_GPU),$(VENV)/.gpu)  ## open the app on http://127.0.0.1:7860
	$(RUN) app.py

test: lint browser  ## lint, types, then all tests, in a real browser too; with QUARTET_LONG=1 the longer forms as well
	$(RUN) -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.dev  ## ruff and ty
	$(VENV)/bin/ruff check $(SOURCES)
	$(VENV)/bin/ruff format --check $(SOURCES)
	$(VENV)/bin/ty check $(SOURCES)

format: $(VENV)/.dev  ## let ruff rewrite what it can
	$(VENV)/bin/ruff check --fix $(SOURCES)
	$(VENV)/bin/ruff format $(SOURCES)

browser: $(VENV)/.dev
	@$(RUN) -m tests.e2e.browser

doctor: $(VENV)/.app  ## what this machine has, what is missing, and how to get it
	$(RUN) -m core.doctor $(ARGS)

bench: $(VENV)/.dev  ## time the solvers beside independent ones
	$(RUN) -m plugins.attribution bench $(ARGS)

bench-capture: $(VENV)/.dev  ## time reading a model's layers beside plain forward passes (quiet machine)
	$(RUN) -m plugins.attribution bench-capture $(ARGS)

bench-gpu: $(VENV)/.dev $(VENV)/.gpu  ## the same on an NVIDIA GPU
	$(RUN) -m plugins.attribution bench --device cuda $(ARGS)

bench-video: $(VENV)/.dev  ## time sparse attention beside dense (quiet machine; 6 minutes)
	$(RUN) -m plugins.sparse_video bench $(ARGS)

bench-video-gpu: $(VENV)/.dev $(VENV)/.gpu  ## the same at the true shapes, on an NVIDIA GPU
	$(RUN) -m plugins.sparse_video bench --device cuda $(ARGS)

train-video: $(VENV)/.dev  ## train the small video model (ARGS="--minutes 90"), or go on with it
	$(RUN) -m plugins.sparse_video train $(ARGS)

bench-tracking: $(VENV)/.dev  ## frames per second and memory of tracking, beside EdgeTAM and SAM 2 (quiet machine)
	$(RUN) -m plugins.tracking bench $(ARGS)

train-tracking: $(VENV)/.dev  ## train the small tracker on two cores (ARGS="--minutes 60"), or go on with it
	$(VENV)/bin/torchrun --nproc_per_node 2 -m plugins.tracking.train $(ARGS)

parity: browser  ## the games in Python beside those in the browser, and experts, over hundreds of games (15 minutes)
	QUARTET_LONG=1 $(RUN) -m pytest -n 2 tests/ui_action/test_game_parity.py tests/ui_action/test_game_experts.py

train-ui: $(VENV)/.dev  ## train the small agent (ARGS="--minutes 60"), or go on with it
	$(RUN) -m plugins.ui_action.train $(ARGS)

clean:  ## remove .venv and everything that was generated
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# uv takes a fraction of pip's time. It does not read pip.conf, so torch, of which there are builds for every machine, is
# pip's to choose; where uv cannot (a mirror that only pip.conf names), pip does it all.
define install
	@$(RUN) -m pip install --quiet 'uv>=0.8,<1' '$(shell grep ^torch requirements.txt)'
	@VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet $(1:%=-r %) || $(RUN) -m pip install --quiet $(1:%=-r %)
endef

# A stamp file records that a requirements file is installed, so that a second run costs nothing.
$(VENV)/.app: requirements.txt | $(RUN)
	$(call install,requirements.txt)
	@touch $@

$(VENV)/.gpu: requirements-gpu.txt requirements.txt | $(RUN)
	$(call install,requirements-gpu.txt)
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements-scale.txt requirements.txt | $(RUN)
	$(call install,requirements-dev.txt)
	@touch $@ $(VENV)/.app

# A candidate has to run (a pyenv shim may not) and to be able to make an environment (Debian splits that off).
$(RUN):
	@for python in $(PYTHON) python3.12 python3.11 python3 python $$HOME/.pyenv/versions/3.1[21].*/bin/python; do \
	  "$$python" -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
	    && echo "making $(VENV) with $$("$$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')" \
	    && exec "$$python" -m venv $(VENV); \
	done; \
	echo 'No Python 3.12 or 3.11 that can make a virtual environment was found. Install one:'; \
	echo '  Debian/Ubuntu: sudo apt-get install python3 python3-venv    macOS: brew install python@3.12'; \
	echo '  anywhere:      uv python install 3.12'; \
	echo 'or name one:     make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.12'; \
	exit 1
