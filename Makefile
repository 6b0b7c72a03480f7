# The same commands here, in the README and in .ci/run.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
DEBIAN_PACKAGES := gcc libc6-dev python3-bpfcc python3-venv linux-libc-dev iproute2 iperf3 containernetworking-plugins clang-format

.PHONY: help setup lint test demo bench

help: ## Print this
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.done ## Install Debian packages (root) and make .venv with every command in .venv/bin

.venv/.done: pyproject.toml
	@missing=$$(for p in $(DEBIAN_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then echo "installing $$missing"; apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; fi
	/usr/bin/python3 -m venv --system-site-packages .venv
	.venv/bin/pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

lint: setup ## Format and type checks, import contracts
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	clang-format --dry-run --Werror bpf/*.c bpf/*.h

test: setup ## All tests; root for the kernel layer
	.venv/bin/pytest

demo: setup ## A limited cgroup before your eyes, in under two minutes (root)
	@$(PYTHON) -m bench.demo $(ARGS)

bench: setup ## Side by side with the CNI bandwidth plugin; CELLS=… runs chosen cells (root)
	@$(PYTHON) -m bench $(if $(CELLS),--cells '$(CELLS)') $(ARGS)
