#!/bin/sh
# Sees that what tests and pictures of screens need is there: tmux for the terminal
# interface, a headless Chromium for the HTML report, and a font with all that is drawn. On
# Debian and Ubuntu, as root, it installs them.
set -eu

missing=
command -v tmux >/dev/null || missing=tmux
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || missing="$missing chromium"
if command -v fc-list >/dev/null && [ -z "$(fc-list 'DejaVu Sans Mono')" ]; then missing="$missing fonts-dejavu-core"; fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "screens: not installed:$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # One word a package.
apt-get install -q -y --no-install-recommends $missing
