#!/bin/sh
# Checks the workflows of the project and those that it shows people, at the version of
# actionlint that hack/actionlint/go.mod pins. Programs that may or may not be on the
# machine are left out: what is complained about is the same everywhere.
set -eu

cd "$(dirname "$0")/.."
# A workspace or flags meant for the scanner's own module must not reach this one, and it
# runs here, not where a cross build is headed.
unset GOOS GOARCH GOARM GOAMD64 GOARM64
export CGO_ENABLED=0 GOWORK=off GOFLAGS='-mod=readonly -trimpath'

files=
for file in .github/workflows/*.yaml .github/workflows/*.yml deploy/github/*.yaml deploy/github/*.yml; do
	[ -f "$file" ] || continue
	# A composite action is none of its: only a workflow has jobs.
	grep -q '^jobs:' "$file" || continue
	files="$files $file"
done
[ -n "$files" ] || {
	echo "actionlint: no workflows found" >&2
	exit 1
}
# shellcheck disable=SC2086 # One word a file: no name has a blank.
exec go tool -modfile=hack/actionlint/go.mod actionlint -shellcheck= -pyflakes= $files
