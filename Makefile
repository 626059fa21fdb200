# Each target works from a fresh clone with nothing else typed.
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
	&& command -v $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test lint types tests clean

setup: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Sori needs Python 3.11 or 3.12 (Aim has no wheels for newer ones); none was found. Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "setting up .venv with $$($(PYTHON) --version)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[aim,demo,hf,llm,dev]'
	@touch $@

demo: setup
	$(BIN)/python -m core.run experiments/stage1_ctc.py

test: lint types tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

tests: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
