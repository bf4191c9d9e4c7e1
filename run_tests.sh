#!/usr/bin/env bash
# Sets up the environment (once) and runs the tests: all of them, in one process more than it may use cores, as some
# wait for others; four at most.
#   ./run_tests.sh fast     those that take seconds, in about two minutes
#   ./run_tests.sh ...      arguments go to pytest instead
set -euo pipefail
unset CDPATH
script=${BASH_SOURCE[0]}
while [ -L "$script" ]; do # by hand, because not every readlink has -f
    folder=$(cd -P "$(dirname "$script")" && pwd)
    script=$(readlink "$script")
    [[ $script = /* ]] || script=$folder/$script
done
cd -P "$(dirname "$script")"
source ./setup.sh
unset PYTHONDONTWRITEBYTECODE # as many containers set it: what pytest makes of the tests is made once, not by each process
cores=$(.venv/bin/python -c "import joblib; print(joblib.cpu_count())") # that this process may use
if [ $# -eq 0 ]; then
    set -- -n "$((cores < 4 ? cores + 1 : 4))" --dist loadfile --no-loadscope-reorder
elif [ "$1" = fast ]; then
    shift
    set -- -n "$((cores < 4 ? cores : 4))" --dist loadfile --no-loadscope-reorder -m "not slow" "$@"
fi
exec .venv/bin/python -m pytest "$@"
