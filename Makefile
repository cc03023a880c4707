# Everything here works in a fresh clone on a Debian machine with Go.
#
#	T=30s    time per fuzz target        B=Read   benchmarks to run (pattern)
#	P=./rafs packages for race, bench    COUNT=10 repetitions of a benchmark

SHELL := /bin/bash
GO ?= $(or $(shell command -v go),/usr/local/go/bin/go)
export PATH := $(dir $(GO)):$(PATH)
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false

VERSION := $(or $(shell git describe --tags --match 'v*' --always --dirty 2>/dev/null),unknown)
COMMIT  := $(or $(shell git rev-parse HEAD 2>/dev/null),unknown)
TIME    := $(or $(shell git log -1 --format=%cI 2>/dev/null),unknown)
CLI     := vrafs/internal/cli
LDFLAGS := -s -w -X $(CLI).version=$(VERSION) -X $(CLI).gitCommit=$(COMMIT) -X $(CLI).buildTime=$(TIME)

PROGRAMS := $(patsubst cmd/%/,%,$(wildcard cmd/*/))
TOOL     := $(GO) tool -modfile=tools/go.mod

T     ?= 10s
B     ?= .
P     ?= ./...
COUNT ?= 1

.DEFAULT_GOAL := help
.PHONY: help build check test soak race fuzz bench vm demo run deps env clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/vrafs (also as bin/nydus-image) and bin/vrafsd (also as bin/nydusd)
	@mkdir -p bin
	@$(if $(PROGRAMS),,echo "no programs under cmd/ yet")
	@set -e; for p in $(PROGRAMS); do echo "bin/$$p"; $(GO) build -ldflags '$(LDFLAGS)' -o bin/$$p ./cmd/$$p; done
	@if [ -e bin/vrafs ]; then ln -sf vrafs bin/nydus-image; fi
	@if [ -e bin/vrafsd ]; then ln -sf vrafsd bin/nydusd; fi

check: ## format, vet, staticcheck, errcheck, project rules, short tests: four minutes, less when little changed
	@scripts/check

test: ## install what is missing, check, fuzz 10 s each, then every test: what CI runs
	@scripts/test

soak: ## the long run: full rounds of every loop, 5 minutes per fuzz target
	@VRAFS_SOAK=1 FUZZTIME=$(if $(filter 10s,$(T)),5m,$(T)) scripts/test

race: ## tests under the race detector (rings on heap memory)
	CGO_ENABLED=1 $(GO) test -race -short -timeout 20m $(P)

fuzz: ## every fuzz target for T (make fuzz T=30s)
	@scripts/fuzz $(T) $(P)

bench: ## benchmarks with their ratios; B=pattern, P=packages, COUNT=n for benchstat
	@mkdir -p bin
	$(GO) test -run '^$$' -bench '$(B)' -benchmem -count $(COUNT) -timeout 60m $(P) | tee bin/bench.txt
	@if [ $(COUNT) -gt 1 ]; then $(TOOL) benchstat bin/bench.txt; fi

vm: build ## boot real guest kernels in QEMU and run the suites inside
	@scripts/install-deps
	REQUIRE=qemu,guestkernel $(GO) test -count=1 -v -timeout 30m ./test/vm/...

demo: build ## boot a guest whose root tree comes lazily out of a real image
	@scripts/demo

run: build ## serve an image of a directory to any front-end (make run S=rootfs)
	@scripts/run $(S)

deps: ## install the programs that tests use
	@scripts/install-deps

env: ## say what this machine can do for the tests
	@$(GO) test -count=1 -v -run TestEveryFeatureHasAnAnswer ./internal/testenv

clean: ## remove what was built here
	rm -rf bin
