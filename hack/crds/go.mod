// The modules whose CustomResourceDefinitions the tests install, pinned by their
// checksums. A module of its own, which nothing is built from, so that nothing of
// it reaches the scanner's dependencies.
module github.com/escape-scanner/escape-scanner/hack/crds

go 1.26.6

require (
	github.com/kubearmor/KubeArmor/pkg/KubeArmorController v0.0.0-20260406102335-87edc770f8bf
	github.com/kyverno/kyverno v1.19.1
	github.com/openreports/reports-api v0.2.1
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
