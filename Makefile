# Everything a developer types. `make demo` and `make test` need a C compiler, make and Python >= 3.10, and pip's index.
#
# PYTHON=python3.13   the interpreter to make .venv from        ARGS="-k graph"   passed to pytest
# CC=clang            the compiler of the C tests      TEST_DATABASE_URL, DATABASE_URL: see README.md

.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
PYTHON = $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && exit; done; echo python3)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -qq --disable-pip-version-check --no-input
ARGS ?=

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

# --- Set-up -------------------------------------------------------------------------------------------------------

# The stamps say that a step was finished: one that was interrupted is done again from its start.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	    echo "make: Python 3.10 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
	    echo "      Name one with: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "make: '$(PYTHON)' cannot make virtual environments (it lacks venv or ensurepip)." >&2; \
	    echo "      Debian, Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@command -v $(CC) >/dev/null || { \
	    echo "make: there is no C compiler '$(CC)'. Debian, Ubuntu: apt-get install gcc" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.demo $(VENV)/.test: $(VENV)/.%: $(VENV)/.made pyproject.toml setup.py
	@echo "Installing migrate_ext and what 'make $*' needs into $(VENV); this takes a minute, once"
	@rm -rf *.egg-info  # of an older build: in this folder it would hide the entry points of the newer
	@$(PIP) "setuptools>=77" && $(PIP) --editable ".[$*]"
	@touch $@

# setuptools compares dates of sources and headers with the built file, and does nothing when nothing changed.
define build
	@$(PY) setup.py -q build_ext --inplace
endef

.PHONY: build
build: $(VENV)/.test ## Build the extension in place
	$(build)

# --- Demo ---------------------------------------------------------------------------------------------------------

.PHONY: demo demo-stop
demo: $(VENV)/.demo ## Run the sample backend's migrations on a real PostgreSQL
	$(build)
	@$(PY) scripts/demo.py

demo-stop: ## Stop the demo's server and delete its data
	@if [ -x $(PY) ]; then $(PY) scripts/demo.py stop; fi

# --- Tests --------------------------------------------------------------------------------------------------------

# One more than there are cores: some tests only wait, for a time limit or for another process.
WORKERS = $(shell $(PY) -c 'import os; print(os.cpu_count() + 1)')

.PHONY: test
test: build test-c ## C tests, then the Python suite on an embedded PostgreSQL
	@$(PY) -m pytest -n $(WORKERS) $(ARGS)

# The plugin's own tests, by the other pytest that it is for, with pytest-alembic, which loads under no newer; the interpreter's build of the extension is shared.
.PHONY: test-pytest8
test-pytest8: build ## The pytest plugin's tests under pytest 8
	@$(PYTHON) -m venv build/pytest8
	@build/pytest8/bin/python -m pip install -qq --disable-pip-version-check "setuptools>=77" "pytest<9" pytest-alembic --editable ".[test]"
	@build/pytest8/bin/python -m pytest -n auto -p no:pytest_alembic $(or $(ARGS),tests/plugin)

# The C core and csrc/pq as two archives, one plain and one under ASan and UBSan: each test takes from it what it calls.
# csrc/pq needs libpq's headers, and calls libpq through a table only: nothing to link.
C_FILES := $(wildcard csrc/core/*.c csrc/pq/*.c)
C_HEADERS := $(wildcard csrc/*/*.h tests/c/*.h tests/fuzz/*.h)
C_TESTS := $(patsubst tests/c/%.c,%,$(wildcard tests/c/*.c))
C_FUZZ := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
C_WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wvla $(if $(filter 1,$(MIGRATE_EXT_WERROR)),-Werror)
C_BUILD = $(CC) -std=c11 -g $(C_WARN) $(FLAGS) -Icsrc -Itests/c @build/c/libpq
build/c/plain/%: FLAGS := -O1
build/c/asan/%: FLAGS := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined

build/c/libpq: $(VENV)/.test
	@mkdir -p build/c && folder=$$($(PY) setup.py --libpq-include) && echo "-I$$folder" >$@

build/c/plain/csrc/%.o: csrc/%.c $(C_HEADERS) build/c/libpq
	@mkdir -p $(@D) && $(C_BUILD) -c $< -o $@
build/c/asan/csrc/%.o: csrc/%.c $(C_HEADERS) build/c/libpq
	@mkdir -p $(@D) && $(C_BUILD) -c $< -o $@

build/c/plain/core.a: $(C_FILES:%.c=build/c/plain/%.o)
build/c/asan/core.a: $(C_FILES:%.c=build/c/asan/%.o)
build/c/plain/core.a build/c/asan/core.a:
	@mkdir -p $(@D) && rm -f $@ && $(AR) rcs $@ $^

$(C_TESTS:%=build/c/plain/%): build/c/plain/%: tests/c/%.c build/c/plain/core.a
	@$(C_BUILD) $^ -ldl -o $@
$(C_TESTS:%=build/c/asan/%): build/c/asan/%: tests/c/%.c build/c/asan/core.a
	@$(C_BUILD) $^ -ldl -o $@
$(C_FUZZ:%=build/c/asan/%): build/c/asan/%: tests/fuzz/%.c tests/fuzz/replay.c build/c/asan/core.a
	@$(C_BUILD) $^ -ldl -o $@

# $(call run,title,command): one line when it passes, all it printed when it fails.
define run
	@if $(2) >build/c/log 2>&1; then printf '  ok      %s\n' '$(1)'; \
	else code=$$?; cat build/c/log; printf '  FAILED  %s (exit code %s)\n' '$(1)' $$code; exit 1; fi

endef
VALGRIND := $(if $(shell command -v valgrind),valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=all)

.PHONY: test-c
test-c: $(C_TESTS:%=build/c/plain/%) $(C_TESTS:%=build/c/asan/%) $(C_FUZZ:%=build/c/asan/%) ## C tests: plain, ASan+UBSan, valgrind, fuzz corpora
	@echo "C tests"
	$(foreach t,$(C_TESTS),$(call run,$(t),build/c/plain/$(t)))
	$(foreach t,$(C_TESTS),$(call run,$(t) (ASan+UBSan),build/c/asan/$(t)))
	$(if $(VALGRIND),$(foreach t,$(C_TESTS),$(call run,$(t) (valgrind),$(VALGRIND) build/c/plain/$(t))),@echo "  no valgrind here: left out")
	$(foreach t,$(C_FUZZ),$(call run,$(t) (its corpus),build/c/asan/$(t) tests/fuzz/corpus/$(t:fuzz_%=%)))

.PHONY: test-fast
test-fast: build $(C_TESTS:%=build/c/plain/%) ## What needs no server: C tests, unit tests
	$(foreach t,$(C_TESTS),$(call run,$(t),build/c/plain/$(t)))
	@$(PY) -m pytest -n auto --no-server tests/unit $(ARGS)

# --- Longer than a change should wait -------------------------------------------------------------------------------

FUZZ_SECONDS ?= 600

.PHONY: fuzz soak nightly
fuzz: build $(C_FUZZ:%=build/c/asan/%) ## Each parser under fuzz for FUZZ_SECONDS
	@for target in $(C_FUZZ); do tests/fuzz/run.sh $(FUZZ_SECONDS) $$target build/c/libpq $(C_FILES) || exit 1; done
	@$(PY) tests/fuzz/fuzz_config.py $(FUZZ_SECONDS)

soak: build ## Many at once, killed, cut off: prints a table (hours; ARGS="--scale 0.1" for less)
	@$(PY) tests/soak/soak.py $(ARGS)

PROPERTY_SECONDS ?= 3600

.PHONY: properties
properties: build ## Random programs under Alembic and here, for PROPERTY_SECONDS each
	@$(PY) tests/support/repeat_random_tests.py $(PROPERTY_SECONDS) $(ARGS)

# MIGRATE_EXT_NIGHTLY: more random graphs (tests/oracle/test_graph.py). A debug build of Python checks each call
# into it, and there the leak tests count references, not blocks of memory.
nightly: export MIGRATE_EXT_NIGHTLY = 1
nightly: test fuzz soak properties sanitize compat ## All of it, and the extension's tests on a debug build of Python
	@if command -v python3-dbg >/dev/null; then $(MAKE) VENV=.venv-debug PYTHON=python3-dbg build && \
	    .venv-debug/bin/python -m pytest -q tests/unit tests/pg; \
	else echo "no python3-dbg here: left out"; fi

# A copy of the tree with its own build, so that programs started by tests load the sanitized module too, and the
# developer's own build stays. PostgreSQL's programs are started without the preloaded runtime (migrate_ext/testing/embedded.py).
# Each process writes its own report: compilers and the like leak what they like, a Python must not, but for what is named. What the
# collector tracks is not seen so (tests/unit/test_leaks.py counts it), nor what workers of pytest-xdist leak.
.PHONY: sanitize
sanitize: $(VENV)/.test ## The Python suite under ASan and UBSan, with a look for leaks
	@rm -rf build/sanitize && mkdir -p build/sanitize
	@tar cf - --exclude=./.git --exclude=./.venv --exclude=./build --exclude=./.pgdata --exclude='*.so' . | tar xf - -C build/sanitize
	@cd build/sanitize && MIGRATE_EXT_SANITIZE=1 $(CURDIR)/$(PY) setup.py -q build_ext --inplace
	@cd build/sanitize && mkdir -m 777 reports && echo leak:asyncpg >reports/known && \
	    LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so.6)" \
	    ASAN_OPTIONS="log_path=$$PWD/reports/of:log_exe_name=1" \
	    LSAN_OPTIONS="exitcode=0:print_suppressions=0:suppressions=$$PWD/reports/known" \
	    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc \
	    PYTHONPATH="$$PWD" $(CURDIR)/$(PY) -m pytest $(ARGS); code=$$?; \
	    for report in reports/of.python*; do [ ! -f "$$report" ] || { cat "$$report"; code=1; }; done; exit $$code

.PHONY: lint
lint: build ## ruff, mypy, stubtest, clang-format, and shellcheck where it is installed
	@$(VENV)/bin/ruff check --quiet && $(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/mypy --no-error-summary
	@if [ -f migrate_ext/_core.pyi ]; then $(VENV)/bin/stubtest migrate_ext._core; fi
	@$(VENV)/bin/clang-format --dry-run --Werror $(wildcard csrc/*/*.[ch] tests/c/*.[ch] tests/fuzz/*.[ch])
	@if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh tests/fuzz/*.sh .ci/run; else echo "no shellcheck here: left out"; fi

# Only what is installed: .ci/run installs them where it may.
.PHONY: analyse
analyse: build/c/libpq ## clang-tidy and cppcheck over the C core, where they are installed
	@if command -v clang-tidy >/dev/null; then clang-tidy --quiet --warnings-as-errors='*' $(C_FILES) -- \
	    -std=c11 -Icsrc $$(cat build/c/libpq) 2>build/c/log || { cat build/c/log; exit 1; }; \
	else echo "no clang-tidy here: left out"; fi
	@if command -v cppcheck >/dev/null; then cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr \
	    --enable=warning,performance,portability -Icsrc $(C_FILES); \
	else echo "no cppcheck here: left out"; fi

.PHONY: bench
bench: build ## Compare with Alembic and psql, as ratios of one run; draw the chart of the README
	@$(PY) bench/graph.py && $(PY) bench/run.py $(ARGS) && $(PY) bench/upgrade.py && \
	    $(PY) bench/histories.py && $(PY) bench/chart.py

.PHONY: compat
compat: build ## Suites of others with and without us, ours on other versions and Pythons (half an hour; ARGS=--list)
	@$(PY) scripts/compat.py $(ARGS)

.PHONY: wheel-test
wheel-test: build ## Build the wheel, and use it where there is no compiler and no libpq
	@rm -rf build/wheel && $(PY) -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	@$(PY) scripts/wheel_test.py build/wheel/*.whl

.PHONY: clean
clean: demo-stop ## Remove all that was made, .venv too
	@rm -rf build dist $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis migrate_ext/_core*.so
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
