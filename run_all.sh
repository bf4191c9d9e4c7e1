#!/usr/bin/env bash
# Sets up the environment (once) and runs a profile: ./run_all.sh --help
set -euo pipefail
unset CDPATH PYTHONINSPECT
script=${BASH_SOURCE[0]}
while [ -L "$script" ]; do # by hand, because not every readlink has -f
    folder=$(cd -P "$(dirname "$script")" && pwd)
    script=$(readlink "$script")
    [[ $script = /* ]] || script=$folder/$script
done
here=$(cd -P "$(dirname "$script")" && pwd)
(cd "$here" && source ./setup.sh)
PYTHONUTF8=1 PYTHONPATH=$here exec "$here/.venv/bin/python" -P -m hvae_core "$@"
