#!/usr/bin/env bash
# The fault matrix as a test: scripts/chaos.py in the environment of the tests, about ten minutes; the exit code is 5 when
# something was not survived. Arguments go to chaos.py: --tenth, --full, --only F4,F6, --minutes 30, --json FILE.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment test
cd "$ROOT"
export PYTHONPATH="$ROOT" OMP_NUM_THREADS=1
exec "$VENV/bin/python" scripts/chaos.py "$@"
