#!/bin/sh
# Puts golangci-lint, at the version pinned in hack/lint/go.mod, in bin/ and runs
# it with the arguments given. Building takes minutes the first time, so a stamp
# says what the binary was made from.
set -eu

cd "$(dirname "$0")/.."
module=hack/lint
out=bin/golangci-lint
stamp=$out.stamp

command -v go >/dev/null || {
	echo "lint: go is not on PATH" >&2
	exit 1
}

# The toolchain is in the stamp: a linter built by an older Go refuses to read
# code for a newer one.
want="$(uname -sm) $(go env GOVERSION) $(cat "$module/go.mod" "$module/go.sum" | cksum)"

if ! [ -x "$out" ] || ! [ -f "$stamp" ] || [ "$(cat "$stamp")" != "$want" ]; then
	echo "lint: building golangci-lint; the first time takes minutes" >&2
	mkdir -p bin
	new=$(mktemp -d bin/lint.XXXXXX)
	trap 'rm -rf "$new"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	# A workspace or flags meant for the scanner's own module must not reach this
	# one, and the binary runs here, not where a cross build is headed.
	(
		unset GOOS GOARCH GOARM GOAMD64 GOARM64
		CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly \
			go -C "$module" build -trimpath -ldflags '-s -w' -o "$PWD/$new/golangci-lint" \
			github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	) || {
		echo "lint: golangci-lint did not build (see above); the Go module proxy is needed" >&2
		exit 1
	}
	mv -f "$new/golangci-lint" "$out"
	echo "$want" >"$new/stamp"
	mv -f "$new/stamp" "$stamp"
	rm -rf "$new"
	trap - EXIT INT TERM
fi

exec "$out" "$@"
