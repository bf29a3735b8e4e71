#!/bin/sh
# Puts Helm, at the version pinned in hack/helm/go.mod, in bin/ and runs it with the
# arguments given, if any. Building takes a minute or two the first time, so a stamp says
# what the binary was made from.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
module=$root/hack/helm
out=$root/bin/helm
stamp=$out.stamp

command -v go >/dev/null || {
	echo "helm: go is not on PATH" >&2
	exit 1
}

want="$(uname -sm) $(go env GOVERSION) $(cat "$module/go.mod" "$module/go.sum" "$0" | cksum)"

if ! [ -x "$out" ] || ! [ -f "$stamp" ] || [ "$(cat "$stamp")" != "$want" ]; then
	echo "helm: building; the first time takes a minute or two" >&2
	mkdir -p "$root/bin"
	# Helm renders for the Kubernetes version that it was built for, as its own Makefile says it.
	helm=helm.sh/helm/v3/pkg kubernetes=$(awk '$1 == "k8s.io/api" { split($2, v, "."); print v[2] }' "$module/go.mod")
	versions="-X $helm/lint/rules.k8sVersionMajor=1 -X $helm/lint/rules.k8sVersionMinor=$kubernetes -X $helm/chartutil.k8sVersionMajor=1 -X $helm/chartutil.k8sVersionMinor=$kubernetes"
	new=$(mktemp -d "$root/bin/helm.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	# A workspace or flags meant for the scanner's own module must not reach this
	# one, and the binary runs here, not where a cross build is headed.
	(
		unset GOOS GOARCH GOARM GOAMD64 GOARM64
		CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly \
			go -C "$module" build -trimpath -ldflags "-s -w $versions" -o "$new/helm" helm.sh/helm/v3/cmd/helm
	) || {
		echo "helm: it did not build (see above); the Go module proxy is needed" >&2
		exit 1
	}
	mv -f "$new/helm" "$out"
	echo "$want" >"$new/stamp"
	mv -f "$new/stamp" "$stamp"
	rm -rf "$new"
	trap - EXIT INT TERM
fi

[ $# -eq 0 ] || exec "$out" "$@"
