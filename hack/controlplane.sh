#!/bin/sh
# Puts kube-apiserver and etcd, the ones that the tests talk to, in
# bin/controlplane. Does nothing when they are there and up to date.
#
# KUBEBUILDER_ASSETS, when it names a folder that holds both at the Kubernetes
# minor version pinned in internal/controlplane/go.mod, is linked. Otherwise
# they are built from that module: minutes the first time, so a stamp says what
# the binaries in bin/controlplane were made from.
set -eu

say() { echo "controlplane: $*" >&2; }
die() {
	say "$@"
	exit 1
}

cd "$(dirname "$0")/.."
root=$PWD
module=internal/controlplane
out=bin/controlplane
stamp=$out/stamp
assets=${KUBEBUILDER_ASSETS:-}

[ -f "$module/go.mod" ] || die "$module/go.mod is missing: nothing says which versions to build"

# The machine is in the stamp because a checkout may be shared with a container
# or a virtual machine of another kind.
want="$(uname -sm) assets=$assets $(cat "$module/go.mod" "$module/go.sum" hack/controlplane.sh | cksum)"

if [ -x "$out/kube-apiserver" ] && [ -x "$out/etcd" ] &&
	[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
	exit 0
fi

# pinned PATH prints the version that the nested module requires of a module.
pinned() {
	version=$(awk -v path="$1" '$1 == path && $2 ~ /^v/ { print $2; exit }' "$module/go.mod")
	[ -n "$version" ] || die "$module/go.mod requires no version of $1"
	echo "$version"
}

kubernetes=$(pinned k8s.io/kubernetes)
etcd=$(pinned go.etcd.io/etcd/server/v3)
major=${kubernetes#v}
major=${major%%.*}
minor=${kubernetes#v*.}
minor=${minor%%.*}

# server_version BINARY prints the version that a kube-apiserver says it is.
server_version() {
	"$1" --version 2>/dev/null | awk '{ print $2 }'
}

# In one move each, so that whoever runs or builds at the same time sees either
# the old binary or the new one, never half of it.
mkdir -p "$out"
new=$(mktemp -d "$out/new.XXXXXX")
trap 'rm -rf "$new"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

install_new() {
	mv -f "$new/etcd" "$out/etcd"
	mv -f "$new/kube-apiserver" "$out/kube-apiserver"
	echo "$want" >"$new/stamp"
	mv -f "$new/stamp" "$stamp"
}

if [ -n "$assets" ]; then
	case $assets in
	/*) ;;
	*) assets=$root/$assets ;;
	esac
	if [ "$assets" -ef "$out" ]; then
		say "KUBEBUILDER_ASSETS is $out itself: building what belongs there"
	elif [ -x "$assets/kube-apiserver" ] && [ -x "$assets/etcd" ]; then
		have=$(server_version "$assets/kube-apiserver") || have=
		case $have in
		v"$major.$minor".*)
			ln -s "$assets/kube-apiserver" "$new/kube-apiserver"
			ln -s "$assets/etcd" "$new/etcd"
			install_new
			say "linked kube-apiserver $have and etcd from KUBEBUILDER_ASSETS"
			exit 0
			;;
		esac
		say "KUBEBUILDER_ASSETS has kube-apiserver ${have:-of an unknown version}, wanted v$major.$minor: building instead"
	else
		say "KUBEBUILDER_ASSETS does not hold both kube-apiserver and etcd: building instead"
	fi
fi

command -v go >/dev/null ||
	die "go is not on PATH: install it, or let KUBEBUILDER_ASSETS name a folder with kube-apiserver v$major.$minor and etcd"

say "building kube-apiserver $kubernetes and etcd $etcd; the first time takes minutes"

# The binaries run here and not where a cross build is headed, and a workspace
# or flags meant for the scanner's own module must not reach this one.
unset GOOS GOARCH GOARM GOAMD64 GOARM64
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly

build() {
	binary=$1 package=$2
	shift 2
	(cd "$module" && go build -trimpath "$@" -o "$root/$new/$binary" "$package") ||
		die "$binary did not build (see above). The Go module proxy and about 3 GB of disk are needed, or KUBEBUILDER_ASSETS naming a folder with kube-apiserver v$major.$minor and etcd"
}

build etcd go.etcd.io/etcd/server/v3 -ldflags '-s -w'

# Without these the server calls itself v0.0.0-master, which clients refuse to
# compare with their own version.
version=k8s.io/component-base/version
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver \
	-ldflags "-s -w -X $version.gitVersion=$kubernetes -X $version.gitMajor=$major -X $version.gitMinor=$minor"

have=$(server_version "$new/kube-apiserver") || have=
[ "$have" = "$kubernetes" ] ||
	die "the kube-apiserver just built says it is ${have:-nothing}, not $kubernetes"

install_new
say "kube-apiserver $kubernetes and etcd $etcd are in $out"
