#!/usr/bin/env bash
# The tests that take long: several processes that are killed and stopped, longer numerics; some ten minutes on 2 cores.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment test
cd "$ROOT"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$VENV/bin/python" -m pytest -q -n auto --dist loadfile -m slow "$@"
