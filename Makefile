# Everything that is done here often. `make` alone lists it.

GO ?= go
# How many times each benchmark runs, and which ones.
COUNT ?= 1
BENCH ?= .
# How much work each fuzz target does in `make fuzz`.
FUZZTIME ?= 30s

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Always asked for: the go command knows better than file times what is stale.
.PHONY: build
build: ## Build bin/escape-scanner, and kubectl's name for it
	$(GO) build -o bin/escape-scanner ./cmd/scanner
	ln -sf escape-scanner bin/kubectl-escape_scanner

.PHONY: demo
demo: build ## Audit the demo cluster inside the binary
	bin/escape-scanner scan --demo --fail-on none

.PHONY: controlplane
controlplane: ## Put the tests' kube-apiserver, etcd and CRDs in bin/
	./hack/controlplane.sh
	./hack/crds.sh

.PHONY: test
test: controlplane helm ## Run all tests with the race detector, then every fuzz target briefly
	$(GO) test -race -timeout 25m ./...
	./hack/fuzz.sh 500x 1

.PHONY: fuzz
fuzz: ## Run every fuzz target on new inputs; FUZZTIME=30s or 5000x each
	./hack/fuzz.sh $(FUZZTIME)

.PHONY: lint
lint: ## Run the linters; the first time builds them
	./hack/lint.sh config verify
	./hack/lint.sh run ./...

.PHONY: bench
bench: controlplane ## Run the benchmarks; COUNT=n times, BENCH=regexp
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) -timeout 60m ./...

.PHONY: golden
golden: controlplane helm ## Write golden files and generated docs anew
	$(GO) test $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -n 1 dirname | sort -u) -update

.PHONY: docs
docs: ## Generate docs/rules and docs/escape-paths.md
	$(GO) test ./report -run '^Test(RulePages|EscapePathsPage)$$' -update

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
