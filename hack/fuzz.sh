#!/bin/sh
# Runs every fuzz target of the module for a fixed amount of work. The first
# argument is what -fuzztime takes: 500x is 500 executions. The second is the seed
# of what is tried: with one the same inputs are tried every time, so that a run
# fails because of a change and not by chance; one worker does it then, for several
# share the work as it comes. To look for bugs with guidance by coverage, run one
# target with go test -fuzz instead.
set -eu

cd "$(dirname "$0")/.."
amount=${1:-500x}
seed=${2:-}

if [ -n "$seed" ]; then
	export GODEBUG="${GODEBUG:+$GODEBUG,}fuzzseed=$seed"
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

targets=0
go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}' ./... >"$tmp/packages"
while read -r package dir; do
	names=$(sed -n 's/^func \(Fuzz[A-Z0-9_][A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go | sort)
	[ -n "$names" ] || continue
	# Built once for all its targets, and without coverage: that would compile
	# every dependency anew, and so few executions are not guided anyway. With the
	# flags of make build, whose compiled packages it shares.
	CGO_ENABLED=0 go test -c -trimpath -o "$tmp/fuzz.test" "$package"
	for name in $names; do
		targets=$((targets + 1))
		# A failing input is written to testdata/fuzz in the package's folder. What
		# the engine learns goes to a new cache: an old one is replayed before the
		# count begins, and the work would not be fixed.
		if ! (cd "$dir" && "$tmp/fuzz.test" -test.run='^$' -test.fuzz="^$name\$" \
			-test.fuzztime="$amount" -test.fuzzcachedir="$tmp/corpus" \
			-test.timeout=5m ${seed:+-test.parallel=1}) >"$tmp/log" 2>&1 </dev/null; then
			cat "$tmp/log"
			echo "FAIL	$package $name" >&2
			exit 1
		fi
		echo "ok  	$package $name"
	done
done <"$tmp/packages"

[ "$targets" -gt 0 ] || {
	echo "fuzz: no targets found" >&2
	exit 1
}
echo "fuzz: $targets targets, $amount each"
