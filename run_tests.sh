#!/usr/bin/env bash
# Sets up the environment (once) and runs all tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./setup.sh
exec .venv/bin/python -m pytest "$@"
