#!/bin/sh
# Prints the version of this checkout: its tag, or how far it is from the last one, or the
# commit when there is none. Changes that are not committed show. What git says of a commit
# is the same in every clone that has its tags.
set -eu

cd "$(dirname "$0")/.."
if version=$(git describe --tags --match 'v[0-9]*' --abbrev=12 --dirty 2>/dev/null); then
	echo "$version"
elif commit=$(git rev-parse --short=12 HEAD 2>/dev/null); then
	dirty=
	[ -z "$(git status --porcelain --untracked-files=no)" ] || dirty=-dirty
	echo "v0.0.0-g$commit$dirty"
else
	echo v0.0.0-unknown
fi
