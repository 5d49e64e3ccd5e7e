# The commands of the course. Each makes .venv first when it is missing; see tools/course.sh for how.
# RCNN_TORCH and RCNN_TORCH_INDEX choose another build of torch, for example a CPU build (see README).
COURSE = tools/course.sh
PYTHON = .venv/bin/python
PARTS = install lint unit nbval hygiene browser
# Which of nosimd, rebuild and offline `make test` adds; by default each commit takes the next one.
TURN = in-turn
# More arguments for JupyterLab, for example LAB="--no-browser --port 9000".
LAB =

.DEFAULT_GOAL = help
.PHONY: help lab reset test test-all setup lint types nbval notebooks bench doctor

help: ## show this list
	@echo "make lab   starts the course, make test checks it. All commands:"
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 20

lab: setup ## open the course in JupyterLab (your copies of the lessons: my_notebooks/)
	@$(PYTHON) -m rcnnlib lab -- $(LAB)

reset: setup ## put one lesson back as delivered, keeping yours beside it: make reset LESSON=01
	@$(PYTHON) -m rcnnlib reset "$(LESSON)"

test: ## all that CI runs, with durations (about 20 minutes on two cores)
	@$(COURSE) check $(PARTS) $(TURN)

test-all: ## the same, with all three of: no SIMD, rebuild without a diff, offline
	@$(COURSE) check $(PARTS) nosimd rebuild offline

setup: ## make .venv and install into it; nothing happens when nothing has changed
	@$(COURSE) setup

lint: setup ## ruff: rules and format
	@$(COURSE) check lint

types: setup ## pyright on the library (fetches pyright itself when first run)
	@$(PYTHON) -m pyright

nbval: setup ## run every lesson and compare each output with the stored one
	@$(COURSE) check nbval

notebooks: setup ## build notebooks/*.ipynb from notebooks/src/*.py, and run them
	@$(PYTHON) notebooks/build.py

bench: setup ## our operators against torchvision's: milliseconds and ratio
	@$(PYTHON) -m rcnnlib benchmark ops

doctor: setup ## what this machine has, and how to mend what is missing
	@$(PYTHON) -m rcnnlib doctor
