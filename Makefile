# One command for everything. Needs Python 3.11 or newer (with venv) and make; nothing else.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 2
# Python that takes the package from there, and not from here.
COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=build/compiled:.

.PHONY: demo test test-compiled check compiler compiled wheel bench bench-compiled cache-suite fuzz soak protos reference install clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@echo "installing into .venv, which takes about half a minute ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## the shop example behind a real Envoy; CHECK=1 tries every printed command
	$(BIN)/extproc demo $(if $(CHECK),--check)

test: $(STAMP)  ## every test, with a real Envoy and a real Redis
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not alone' $(ARGS)
	$(BIN)/python -m pytest -m alone $(ARGS)

test-compiled: compiled  ## the tests of what is compiled, on the compiled package
	$(COMPILED) $(BIN)/python -m pytest -n $(WORKERS) -m 'not alone' -o pythonpath='build/compiled .' $(ARGS) \
	  tests/adapters tests/aggregation tests/attacks tests/authentication tests/authorization tests/authz \
	  tests/caching tests/core tests/egress tests/expressions tests/fuzz tests/host tests/http2 tests/local \
	  tests/offline tests/transformation tests/e2e/test_trying.py

check: $(STAMP)  ## lint, format, types, architecture, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/architecture tests/docs

compiler:
	@command -v $${CC:-cc} >/dev/null || { echo "no C compiler: install gcc or clang, or set CC"; exit 1; }

compiled: $(STAMP) compiler  ## the package with its hot modules as C extensions, in build/compiled; needs a C compiler
	@echo "compiling into build/compiled, which takes two or three minutes ..."
	@rm -rf build/compiled
	EXTPROC_COMPILED=1 $(BIN)/python setup.py --quiet build --parallel 2 --build-lib build/compiled

wheel: $(STAMP) compiler  ## the same as a wheel for this Python and machine, in dist
	@echo "compiling, which takes two or three minutes ..."
	EXTPROC_COMPILED=1 $(BIN)/python -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .

bench: $(STAMP)  ## CPU per request beside the yardstick; results in bench/results.json
	$(BIN)/python -m bench.run $(ARGS)
	$(BIN)/python -m bench.scale
	$(BIN)/python -m bench.store
	$(BIN)/python -m bench.bursts
	$(BIN)/python -m bench.calls
	@if command -v $${CC:-cc} >/dev/null; then $(MAKE) bench-compiled; \
	else echo "there is no C compiler: the compiled package is not measured"; fi

bench-compiled: compiled  ## the same of the compiled package; results in bench/compiled.json
	$(COMPILED) $(BIN)/python -m bench.run --output bench/compiled.json $(ARGS)
	$(COMPILED) $(BIN)/python -m bench.calls --output bench/calls-compiled.json

cache-suite: $(STAMP)  ## the public HTTP cache tests against a gateway; by npm, or SUITE=a checkout
	$(BIN)/python -m tests.caching.public_suite $(if $(SUITE),--suite $(SUITE))

fuzz: $(STAMP)  ## a million mutations of recorded Envoy traffic; --inputs, --seed, --replay
	$(BIN)/python -m tests.fuzz.run $(ARGS)

soak: $(STAMP)  ## a million exchanges with resets and failing plugins: memory and descriptors
	$(BIN)/python -m bench.soak $(ARGS)

protos: $(STAMP)  ## generated code from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. \
	  protos/extproc/adapters/messages/*.proto protos/extproc/expressions/messages/*.proto

reference: $(STAMP)  ## the tables of docs/gateway-file.md from the schema
	$(BIN)/python -m docs.generate

clean:
	rm -rf .venv build dist *.egg-info
