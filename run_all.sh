#!/usr/bin/env bash
# Sets up the environment (once) and runs a profile: ./run_all.sh --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./setup.sh
exec .venv/bin/python -m hvae_core "$@"
