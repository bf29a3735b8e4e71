#!/usr/bin/env bash
# Puts the release of escape-scanner that ES_VERSION names in a folder of its own below
# RUNNER_TEMP. Nothing is unpacked before its checksum is right.
set -euo pipefail

die() {
	printf '::error::escape-scanner: %s\n' "$*" >&2
	exit 2
}

version=${ES_VERSION:?}
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || die 'version: want one like v0.1.0'
[[ $ES_SHA256 =~ ^([0-9a-f]{64})?$ ]] || die 'sha256: want 64 lower-case hexadecimal digits'
[[ $ES_RELEASE_URL =~ ^https://[^[:space:]]+$ ]] || die 'release-url: want an https:// address'
case $ES_VERIFY_SIGNATURE in auto | required | off) ;; *) die 'verify-signature: want auto, required or off' ;; esac

case $(uname -s) in
Linux) os=linux ;;
Darwin) os=darwin ;;
*) die 'there are releases for Linux and macOS runners only' ;;
esac
case $(uname -m) in
x86_64 | amd64) arch=amd64 ;;
aarch64 | arm64) arch=arm64 ;;
*) die "there is no release for the architecture $(uname -m)" ;;
esac

archive=escape-scanner_${version}_${os}_${arch}.tar.gz
dir=$RUNNER_TEMP/escape-scanner-$version
rm -rf -- "$dir"
mkdir -p -- "$dir/download"

fetch() { # NAME
	curl --proto '=https' --tlsv1.2 --fail --silent --show-error --location --retry 3 \
		--output "$dir/download/$1" "$ES_RELEASE_URL/$version/$1" || die "$1 of $version could not be downloaded"
}
sha256() { # FILE
	if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d ' ' -f 1
}

fetch "$archive"
want=$ES_SHA256
if [[ -z $want ]]; then
	fetch checksums.txt
	want=$(awk -v name="$archive" '$2 == name || $2 == "*" name { print $1 }' "$dir/download/checksums.txt")
	[[ $want =~ ^[0-9a-f]{64}$ ]] || die "checksums.txt has no checksum of $archive, or more than one"
fi
got=$(sha256 "$dir/download/$archive")
[[ $got == "$want" ]] || die "$archive has the SHA-256 $got, not $want"

# A checksum that the workflow pins needs no signature: nobody but the workflow chose it.
if [[ -z $ES_SHA256 && $ES_VERIFY_SIGNATURE != off ]]; then
	if command -v cosign >/dev/null; then
		fetch checksums.txt.sigstore.json
		cosign verify-blob --bundle "$dir/download/checksums.txt.sigstore.json" \
			--certificate-identity "https://github.com/escape-scanner/escape-scanner/.github/workflows/release.yaml@refs/tags/$version" \
			--certificate-oidc-issuer https://token.actions.githubusercontent.com \
			"$dir/download/checksums.txt" || die 'the signature of checksums.txt is not that of the release workflow'
	elif [[ $ES_VERIFY_SIGNATURE == required ]]; then
		die 'verify-signature is required and cosign is not installed'
	fi
fi

tar -xzf "$dir/download/$archive" -C "$dir" escape-scanner
"$dir/escape-scanner" version
