#!/usr/bin/env bash
# Sets up the environment (once) and runs the tests: all of them, on as many cores as there are, up to four.
#   ./run_tests.sh fast     those that take seconds, in about two minutes
#   ./run_tests.sh ...      arguments go to pytest instead
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./setup.sh
cores=$(getconf _NPROCESSORS_ONLN)
spread=(-n "$((cores < 4 ? cores : 4))" --dist loadfile)
if [ $# -eq 0 ]; then
    set -- "${spread[@]}"
elif [ "$1" = fast ]; then
    shift
    set -- "${spread[@]}" -m "not slow" "$@"
fi
exec .venv/bin/python -m pytest "$@"
