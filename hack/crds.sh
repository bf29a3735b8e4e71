#!/bin/sh
# Puts the CustomResourceDefinitions of KubeArmor, Kyverno, OpenReports and the Prometheus
# operator, those that the tests install in their API server, in bin/crds. They are taken from the modules that
# hack/crds/go.mod pins. Does nothing when they are there and up to date.
set -eu

die() {
	echo "crds: $*" >&2
	exit 1
}

cd "$(dirname "$0")/.."
module=hack/crds
out=bin/crds
stamp=$out/stamp

want=$(cat "$module/go.mod" "$module/go.sum" hack/crds.sh | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
	exit 0
fi

command -v go >/dev/null || die "go is not on PATH"
# A workspace or flags meant for the scanner's own module must not reach this one.
export GOWORK=off GOFLAGS=-mod=readonly
# The versions are in go.mod and the checksums in go.sum: what does not fit them is
# refused.
(cd "$module" && go mod download) || die "no download (see above); the Go module proxy is needed"

mkdir -p bin
new=$(mktemp -d bin/crds.XXXXXX)
trap 'rm -rf "$new"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# take NAME MODULE FOLDER [FILES] copies the folder of a module, or some of its files.
take() {
	dir=$(cd "$module" && go list -m -f '{{.Dir}}' "$2")
	mkdir -p "$new/$1"
	cp "$dir/$3"/${4:-*.yaml} "$new/$1/" || die "$2 has no CustomResourceDefinitions in $3"
}
take kubearmor github.com/kubearmor/KubeArmor/pkg/KubeArmorController config/crd/bases
take kyverno github.com/kyverno/kyverno config/crds/kyverno
take kyverno github.com/kyverno/kyverno config/crds/policies.kyverno.io
take policyreport github.com/kyverno/kyverno config/crds/policyreport
take openreports github.com/openreports/reports-api config/crd
take prometheus github.com/prometheus-operator/prometheus-operator example/prometheus-operator-crd monitoring.coreos.com_servicemonitors.yaml
# The files of the module cache are read-only.
chmod -R u+w "$new"
chmod 755 "$new"
echo "$want" >"$new/stamp"
rm -rf "$out"
mv "$new" "$out"
trap - EXIT INT TERM
