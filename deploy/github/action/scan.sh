#!/usr/bin/env bash
# Scans, writes SARIF and JSON lines, and sets the outputs of the step. It fails only
# where there is nothing to upload: gate.sh decides about the job.
set -euo pipefail

die() {
	printf '::error::escape-scanner: %s\n' "$*" >&2
	exit 2
}
boolean() { # INPUT VALUE
	[[ $2 == true || $2 == false ]] || die "$1: want true or false"
}
line() { # INPUT VALUE
	[[ -n $2 && $2 != *[$'\n\r']* ]] || die "$1: want one line"
}

scanner=$RUNNER_TEMP/escape-scanner-${ES_VERSION:?}/escape-scanner
boolean cluster "$ES_CLUSTER"
boolean fail-on-incomplete "$ES_FAIL_ON_INCOMPLETE"
line sarif-file "$ES_SARIF_FILE"
line events-file "$ES_EVENTS_FILE"

# Every value is joined to its flag: one that begins with a dash is no flag then.
what=()
while IFS= read -r path || [[ -n $path ]]; do
	path=${path%$'\r'}
	[[ $path =~ [^[:space:]] ]] || continue
	[[ $path != - ]] || die 'paths: there is no standard input to read; write what is rendered to a file'
	what+=("--filename=$path")
done <<<"$ES_PATHS"
if [[ $ES_CLUSTER == true ]]; then
	[[ ${#what[@]} -eq 0 ]] || die 'give paths or cluster, not both'
else
	[[ ${#what[@]} -gt 0 ]] || die 'give paths, or cluster: true'
fi
settings=()
[[ -z $ES_CONFIG ]] || settings+=("--config=$ES_CONFIG")
more=()
while IFS= read -r arg || [[ -n $arg ]]; do
	arg=${arg%$'\r'}
	[[ -z $arg ]] || more+=("$arg")
done <<<"$ES_ARGS"

# What a manifest says reaches the log: it must not be read as a command to the runner.
token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
quietly() {
	local code=0
	printf '::stop-commands::%s\n' "$token"
	"$@" </dev/null || code=$?
	printf '\n::%s::\n' "$token"
	return "$code"
}

# The whole run is kept first, whatever fails the job, and then told against the baseline:
# a SARIF without what is known would make code scanning close its alerts.
rm -f -- "$ES_SARIF_FILE" "$ES_EVENTS_FILE"
read=0
quietly "$scanner" scan ${what[@]+"${what[@]}"} ${settings[@]+"${settings[@]}"} "--level=$ES_LEVEL" --fail-on=none \
	"--sarif-category=$ES_CATEGORY" "--output=sarif=$ES_SARIF_FILE" "--output=jsonl=$ES_EVENTS_FILE" \
	${more[@]+"${more[@]}"} || read=$?
[[ $read -eq 0 || $read -eq 3 ]] || die "the scan ended with exit code $read"
told=("--from=$ES_EVENTS_FILE" "--fail-on=$ES_FAIL_ON" --output=table)
[[ $ES_FAIL_ON_INCOMPLETE == true ]] || told+=(--allow-incomplete)
[[ -z $ES_BASELINE ]] || told+=("--baseline=$ES_BASELINE")
code=0
quietly "$scanner" scan "${told[@]}" ${settings[@]+"${settings[@]}"} || code=$?
[[ $code -eq 0 || $code -eq 1 || $code -eq 3 ]] || die "telling the run ended with exit code $code"

end=$(tail -n 1 -- "$ES_EVENTS_FILE")
[[ $end == '{"end":'* ]] || die "$ES_EVENTS_FILE has no end"
count() { # NAME
	[[ $end =~ \"$1\":([0-9]+) ]] && printf '%s' "${BASH_REMATCH[1]}"
}
complete=true
[[ $read -eq 0 && $end == *'"incomplete":false'* ]] || complete=false
{
	printf 'exit-code=%s\ncomplete=%s\nsarif-file=%s\nevents-file=%s\n' "$code" "$complete" "$ES_SARIF_FILE" "$ES_EVENTS_FILE"
	for name in critical high medium low exposed; do
		printf '%s=%s\n' "$name" "$(count "$name")"
	done
} >>"$GITHUB_OUTPUT"

# Numbers only: names of workloads are the manifests' and could be Markdown.
{
	printf '### escape-scanner\n\n'
	printf '| workloads | exposed | unknown | guarded | closed | sealed |\n|---|---|---|---|---|---|\n|'
	for name in workloads exposed unknown guarded closed sealed; do printf ' %s |' "$(count "$name")"; done
	printf '\n\n| critical | high | medium | low |\n|---|---|---|---|\n|'
	for name in critical high medium low; do printf ' %s |' "$(count "$name")"; done
	printf '\n\n'
	[[ $complete == true ]] || printf '**Incomplete:** something could not be read. What is not listed is not proven absent, and nothing is uploaded.\n\n'
	printf 'Each finding, with the field and the fix, is in the log of the step.\n'
} >>"$GITHUB_STEP_SUMMARY"
