# `make run` runs CloudPose, `make test` runs every check. Both install what is missing first.
.DEFAULT_GOAL := help
.PHONY: help run build setup setup-test test lint cuda-kernels unit isa doc browser contract clients model-test deploy-test manifests bench-peers bench-http bench-overload bench-shares attack attack-memory soak fuzz deny clean

LISTEN ?= 127.0.0.1:60000
CARGO ?= cargo
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))

help: ## Shows this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: setup ## Builds CloudPose and serves on http://127.0.0.1:60000 (LISTEN=address:port).
	$(CARGO) run --release --locked -- serve --listen $(LISTEN)

build: setup ## Builds the binary into target/release.
	$(CARGO) build --release --locked

setup: ## Installs what the build needs, where apt is there and we may.
	@deploy/setup.sh build

setup-test: ## Installs what the tests need.
	@deploy/setup.sh test

test: setup setup-test lint doc browser contract clients model-test deploy-test unit isa ## Runs every check, as CI does.

lint: setup ## Format, and warnings as errors.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

cuda-kernels: ## Compiles the CUDA kernels that the binary carries, without a GPU (fetches 25 MB from PyPI).
	python3 -m venv $(TARGET_DIR)/nvrtc
	$(TARGET_DIR)/nvrtc/bin/pip install --quiet -r benches/gpu/requirements-compile.txt
	$(TARGET_DIR)/nvrtc/bin/python benches/gpu/compile_kernels.py

unit: setup setup-test ## All tests in Rust.
	$(CARGO) nextest run --workspace --locked
	$(CARGO) test --workspace --locked --doc --quiet

isa: setup setup-test ## The kernels and the engine again on the portable instruction set, whole.
	CLOUDPOSE_ISA=portable $(CARGO) nextest run --workspace --locked -E 'package(cloudpose-kernels) + package(cloudpose-infer)'

doc: setup ## The documentation builds without warnings.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet

browser: setup setup-test ## The web page in headless Chromium with a fake camera.
	$(CARGO) build --locked
	cd tests/browser && CLOUDPOSE_BIN="$(TARGET_DIR)/debug/cloudpose" npm test

contract: setup setup-test ## What a running system says, against docs/asyncapi.yaml and the snapshots (UPDATE_SNAPSHOTS=1 writes them).
	$(CARGO) build --locked
	cd tests/contract && CLOUDPOSE_BIN="$(TARGET_DIR)/debug/cloudpose" ../.venv/bin/python -m pytest --quiet

clients: setup setup-test ## The Python client as a wheel, its examples and notebook, and other people's clients, against a server.
	$(CARGO) build --locked
	tests/clients/wheel.sh "$(TARGET_DIR)/wheels"
	cd clients/python && ../../tests/.venv-clients/bin/mypy src
	CLOUDPOSE_BIN="$(TARGET_DIR)/debug/cloudpose" tests/.venv-clients/bin/python -m pytest --quiet tests/clients

model-test: setup setup-test ## Golden outputs of models against ONNX Runtime.
	$(CARGO) build --locked
	$(CARGO) build --workspace --locked --example graph
	CLOUDPOSE_BIN="$(TARGET_DIR)/debug/cloudpose" CLOUDPOSE_GRAPH="$(TARGET_DIR)/debug/examples/graph" tests/.venv/bin/pytest --quiet tests/models

deploy-test: setup setup-test ## Chart, manifests, images, alerts and dashboards, against the binary.
	$(CARGO) build --locked
	CLOUDPOSE_BIN="$(TARGET_DIR)/debug/cloudpose" tests/.venv/bin/pytest --quiet tests/deploy

manifests: setup-test ## Renders deploy/kustomize/base from the Helm chart.
	tests/.venv/bin/python tests/deploy/manifests.py

bench-peers: build ## Our engine beside LiteRT and OpenVINO (ARGS="thunder --threads 1").
	python3 -m venv $(TARGET_DIR)/peers
	$(TARGET_DIR)/peers/bin/pip install --quiet -r benches/peers/requirements.txt
	$(TARGET_DIR)/peers/bin/python benches/peers/compare.py --binary $(TARGET_DIR)/release/cloudpose $(ARGS)

bench-http: build ## `cloudpose serve` beside the service that users of the existing API run (ARGS="--rounds 3").
	python3 -m venv $(TARGET_DIR)/peers
	$(TARGET_DIR)/peers/bin/pip install --quiet -r benches/peers/requirements.txt
	$(TARGET_DIR)/peers/bin/python benches/peers/services.py --binary $(TARGET_DIR)/release/cloudpose $(ARGS)

bench-overload: build setup-test ## Memory of each role under three times the load it can work on.
	tests/.venv/bin/python benches/roles/overload.py --binary $(TARGET_DIR)/release/cloudpose $(ARGS)

bench-shares: build setup-test ## What a tenant's flood takes from another tenant, on both buses (ARGS="--rounds 1").
	tests/.venv/bin/python benches/shares/shares.py --binary $(TARGET_DIR)/release/cloudpose $(ARGS)

attack: build ## What hostile clients can do to `cloudpose serve`, on loopback, as a table (ARGS="--short").
	python3 benches/attack/attack.py --binary $(TARGET_DIR)/release/cloudpose $(ARGS)

attack-memory: build ## What `cloudpose serve` keeps of the memory that an attack took, by settings of the allocator (ARGS="--rounds 1").
	python3 benches/attack/memory.py --binary $(TARGET_DIR)/release/cloudpose $(ARGS)

soak: build setup-test ## Memory of every role for half an hour at 80 % load, with attacks in between (ARGS="--minutes 5").
	python3 benches/attack/soak.py --binary $(TARGET_DIR)/release/cloudpose $(ARGS)

fuzz: setup ## Looks for bytes that break what reads them, a minute for each kind (ARGS="--seconds 600 http"; needs cargo-fuzz and a nightly compiler).
	fuzz/run.sh $(ARGS)

deny: ## Licences and sources of all dependencies (needs cargo-deny).
	$(CARGO) deny check licenses bans sources

clean: ## Removes what was built.
	$(CARGO) clean
	rm -rf fuzz/target tests/*/node_modules tests/.venv tests/.venv-clients tests/.venv-others tests/.venv-checkov tests/.prometheus tests/.models
