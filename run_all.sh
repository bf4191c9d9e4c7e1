#!/usr/bin/env bash
# Sets up the environment (once) and runs a profile: ./run_all.sh --help
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
(cd "$here" && source ./setup.sh)
PYTHONPATH=$here exec "$here/.venv/bin/python" -m hvae_core "$@"
