# The ten commands of development. Run them in a virtual environment of Python 3.11 or newer.

.PHONY: setup test test-all lint format types docs wheel ci clean

setup: ## install netgen and everything its tests and docs need
	pip install -c constraints.txt -e '.[test,docs]'

test: ## run the quick tests
	pytest

test-all: ## run all tests, also the slow ones and those that ask other tools
	pytest -m ""

lint: ## check style and imports
	ruff check .
	ruff format --check .
	lint-imports

format: ## format the code and fix what can be fixed
	ruff check --fix .
	ruff format .

types: ## check types
	mypy

docs: ## build the documentation into site/, and fail on any warning
	python docs/make_cli.py > docs/cli.md
	mkdocs build --strict

wheel: ## build a wheel into dist/
	python -m build --wheel

ci: ## run everything that must pass before a change is merged
	bash .ci/run

clean: ## remove what builds and tests leave behind
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
