# Everything that is done here often. `make` alone lists it.

GO ?= go
# How many times each benchmark runs, and which ones.
COUNT ?= 1
BENCH ?= .
# How much work each fuzz target does in `make fuzz`.
FUZZTIME ?= 30s
# What `make image` builds for, and the names of the image (default: by the version).
PLATFORMS ?= linux/amd64,linux/arm64
TAGS ?=

# The tools for releases, in a module of their own. Flags and variables that are meant for
# the scanner must not reach them; they run here, not where a cross build is headed.
RELEASE = env -u GOOS -u GOARCH CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly $(GO) -C hack/release

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Always asked for: the go command knows better than file times what is stale.
.PHONY: build
build: ## Build bin/escape-scanner, and kubectl's name for it
	CGO_ENABLED=0 $(GO) build -buildvcs=auto -trimpath -ldflags "-X main.version=$$(./hack/version.sh)" -o bin/escape-scanner ./cmd/scanner
	ln -sf escape-scanner bin/kubectl-escape_scanner
	ln -sf escape-scanner bin/kubectl_complete-escape_scanner

.PHONY: man
man: build ## Write the manual pages to bin/man
	rm -rf bin/man
	bin/escape-scanner man bin/man

.PHONY: image
image: ## Write the image as an OCI archive to bin/, without docker; PLATFORMS=, TAGS=
	$(RELEASE) run -trimpath . image -platforms "$(PLATFORMS)" -tags "$(TAGS)" \
		-o ../../bin/escape-scanner-image.tar -sbom ../../bin/escape-scanner.spdx.json

.PHONY: push
push: ## Push the archive of `make image` to the registries of TAGS=
	@$(RELEASE) run -trimpath . push -archive ../../bin/escape-scanner-image.tar -tags "$(TAGS)"

.PHONY: release
release: ## Write what a release has to bin/release: archives, checksums, krew manifest
	$(RELEASE) run -trimpath . release -o ../../bin/release

.PHONY: demo
demo: build ## Audit the demo cluster inside the binary
	bin/escape-scanner scan --demo --fail-on none

.PHONY: controlplane
controlplane: ## Put the tests' kube-apiserver, etcd and CRDs in bin/
	./hack/controlplane.sh
	./hack/crds.sh

.PHONY: test
test: controlplane helm ## Run all tests with the race detector, then every fuzz target briefly
	$(GO) test -race -timeout 40m ./...
	$(RELEASE) test -trimpath -timeout 15m ./...
	./hack/fuzz.sh 500x 1

.PHONY: fuzz
fuzz: ## Run every fuzz target on new inputs; FUZZTIME=30s or 5000x each
	./hack/fuzz.sh $(FUZZTIME)

.PHONY: lint
lint: ## Run the linters; the first time builds them
	./hack/lint.sh config verify
	./hack/lint.sh run ./...
	cd hack/release && GOWORK=off ../../bin/golangci-lint run ./...
	./hack/actionlint.sh

.PHONY: bench
bench: controlplane ## Run the benchmarks; COUNT=n times, BENCH=regexp
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) -timeout 60m ./...

.PHONY: golden
golden: controlplane helm ## Write golden files and generated docs anew
	$(GO) test $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -n 1 dirname | sort -u) -update

.PHONY: docs
docs: ## Generate docs/rules, docs/escape-paths.md and docs/cli
	$(GO) test ./report -run '^Test(RulePages|EscapePathsPage)$$' -update
	$(GO) test ./cmd/scanner -run '^TestCLIPages$$' -update

.PHONY: screenshots
screenshots: build ## Make the pictures in docs/images from the demo, by tmux and Chromium
	./hack/screens.sh
	$(GO) run ./hack/shots

.PHONY: helm
helm: ## Put Helm in bin/; the first time builds it
	./hack/helm.sh

.PHONY: manifests
manifests: ## Render deploy/manifests from the chart
	./hack/manifests.sh

.PHONY: tidy
tidy: ## Tidy go.mod and format the code
	$(GO) mod tidy
	./hack/lint.sh fmt

.PHONY: clean
clean: ## Remove what was built, the tests' control plane included
	rm -rf bin
