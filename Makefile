# The commands of the project; `make` alone lists them.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv demo test docs site readme lab clean

BIN := .venv/bin
# pytest processes: the notebooks are its longest tests and share nothing
JOBS ?= 2

# The demo: trains the viseme model and shows what it hears. SPEECH is a sound file of yours; without it, a voice that the training never heard.
SPEECH ?=
DEMO        := demo
DEMO_PARAMS := -p clips 900 -p epochs 5 -p workers 1 -p look_ahead 50
export SPEECH

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 14

venv: .venv/.ready ## .venv with the package, editable, and every extra
.venv/.ready: constraints.txt settings.ini setup.py pyproject.toml
	@tools/venv.sh

demo: venv ## trains the viseme model and makes a page that shows it at work: make demo SPEECH="my talk.wav"
	@mkdir -p $(DEMO)
	@echo "demo: training on speech that eSpeak NG speaks now, about two minutes; the notebook that runs is nbs/train_tcn.ipynb"
	@rm -rf $(DEMO)/run
	@# one core trains, the other prepares its batches
	@OMP_NUM_THREADS=1 $(BIN)/papermill nbs/train_tcn.ipynb $(DEMO)/train_tcn.ipynb $(DEMO_PARAMS) -p out "$(abspath $(DEMO))/run" --log-level WARNING
	@$(BIN)/python tools/demo.py $(DEMO) "$$SPEECH"

test: venv ## the house's laws, every notebook, and the tests below tests/
	$(BIN)/python -m pytest -q -n $(JOBS) --durations 12 tests

docs: venv ## the documentation, in _docs/index.html; any warning or broken link fails
	$(BIN)/python tools/build_docs.py

site: venv ## the published site, with Quarto (which must be installed)
	$(BIN)/python tools/build_docs.py --sidebar
	$(BIN)/nbdev_docs

readme: venv ## README.md from nbs/index.ipynb
	$(BIN)/python tools/readme.py

lab: venv ## JupyterLab in nbs/
	$(BIN)/jupyter lab --notebook-dir nbs

clean: ## removes what make made, .venv and your runs excepted
	rm -rf $(DEMO) _docs _proc jupyter_execute build dist *.egg-info .pytest_cache nbs/nbdev.yml nbs/sidebar.yml nbs/card_*.md
	find lipsync nbs tests tools \( -name __pycache__ -o -name .ipynb_checkpoints \) -print0 | xargs -0 rm -rf
