.DEFAULT_GOAL := help
.PHONY: help up demo test lint bench chaos clean
DATA_DIR ?= .nightcrew
PYTHON := .venv/bin/python
# Each of the hundreds of processes that the tests start would compile the whole project anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## Show this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 8

up: ## Run the whole crew in this terminal until Ctrl-C
	@ops/setup.sh run
	@# A process group of its own: make itself must not see the Ctrl-C, or it would report an error after the drain.
	@[ -t 0 ] && set -m; .venv/bin/nightcrew up --data-dir $(DATA_DIR); exit $$?

demo: ## Count the sample data through real workers, kill one in the middle, print the proof
	@ops/setup.sh run
	@exec .venv/bin/nightcrew demo --data-dir $(DATA_DIR)-demo

test: ## Run all tests
	@ops/setup.sh test
	$(PYTHON) -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not bench and not chaos and not long"

lint: ## Check format, style, types and architecture
	@ops/setup.sh test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: ## Print speed as ratios measured in one run
	@ops/setup.sh test
	$(PYTHON) -m tests.benchmarks

chaos: ## Break everything at random for a while, then check that every count and every job is exact
	@ops/setup.sh test
	$(PYTHON) -m pytest -m "chaos or long" -s

clean: ## Remove what the targets above have made
	rm -rf .venv .nightcrew .nightcrew-demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
