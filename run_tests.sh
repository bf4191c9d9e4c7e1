#!/usr/bin/env bash
# Sets up the environment (once) and runs all tests, as many files at once as there are cores, up to four; arguments go to pytest instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./setup.sh
if [ $# -eq 0 ]; then
    cores=$(getconf _NPROCESSORS_ONLN)
    set -- -n "$((cores < 4 ? cores : 4))" --dist loadfile
fi
exec .venv/bin/python -m pytest "$@"
