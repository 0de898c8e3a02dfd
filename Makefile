# Each target installs what it needs on a Debian machine; see the scripts in dev/.
.PHONY: help run smoke test lint units boot conformance bench install

help: ## what there is
	@sed -n 's/^\([a-z]*\): ## /make \1 - /p' $(MAKEFILE_LIST)

export PREFIX DESTDIR BINARY

run: ## serve the example images on 127.0.0.1:6443 until Ctrl-C
	@dev/run

smoke: ## serve the example images, pull them with skopeo and podman, run one
	@dev/smoke

test: ## all tests with Nix 2.34, and with 2.26 those of the registry, without docker and containerd
	@dev/test

lint: ## formatting, lints, licences, documentation, scripts
	@dev/lint

units: ## the units and options that module.nix makes, and how confined they are
	@dev/units

boot: ## boot these units in a container, and pull, restart, reload and stop (as root)
	@dev/boot

conformance: ## the OCI Distribution conformance suite
	@dev/conformance

bench: ## figures beside nginx and docker-registry
	@dev/bench

install: ## build and install on a systemd host without NixOS: PREFIX=/usr/local DESTDIR= BINARY=
	@contrib/install
