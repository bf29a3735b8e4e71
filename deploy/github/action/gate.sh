#!/usr/bin/env bash
# Fails the job by the exit code of the scan, after everything was uploaded.
set -euo pipefail

[[ $ES_COMPLETE == true ]] ||
	echo '::warning::escape-scanner: something could not be read: what is not listed is not proven absent, and nothing is uploaded'
case $ES_EXIT_CODE in
0) echo 'escape-scanner: nothing that fails the job' ;;
1) printf '::error::escape-scanner: there are findings of severity %s or above\n' "$ES_FAIL_ON" ;;
3) echo '::error::escape-scanner: the scan is incomplete (fail-on-incomplete: false accepts that)' ;;
*) echo '::error::escape-scanner: the scan failed' ;;
esac
exit "$ES_EXIT_CODE"
