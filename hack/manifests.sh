#!/bin/sh
# Renders the chart to plain manifests, in deploy/manifests or in the folder given.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/deploy/manifests}
"$root/hack/helm.sh"

# render FILE "WHAT" FLAG… writes one file.
render() {
	file=$out/$1 what=$2
	shift 2
	# Not by a pipe, which would hide that it failed.
	text=$("$root/bin/helm" template escape-scanner "$root/deploy/chart" --namespace escape-scanner \
		--set plainManifests=true "$@")
	{
		printf '# %s\n# Rendered from deploy/chart by "make manifests": change that.\n' "$what"
		printf '%s\n' "$text" | sed '/^# Source: /d'
	} >"$file.new"
	mv -f "$file.new" "$file"
}

mkdir -p "$out"
render audit.yaml 'An audit every night, which tells its result in its log.' \
	--set watch.enabled=false
render watch.yaml 'The watch: it follows the cluster, and tells what changes in its log, by Events and metrics.' \
	--set audit.enabled=false
render all.yaml 'Audit, watch and node probe, for a cluster with KubeArmor and with reports (OpenReports or PolicyReports).' \
	--set kubearmor.enabled=true --set nodeProbe.enabled=true \
	--set audit.outputs.reports=auto --set watch.reports=auto
