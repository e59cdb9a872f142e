#!/usr/bin/env bash
# ruff, mypy, then the tests but the slow ones (scripts/test-slow.sh); arguments go to pytest, whose exit code is passed on.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment test
cd "$ROOT"
checks=0
bash scripts/check.sh || checks=1
# One thread for each process: the tests are many and small.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
tests=0
if [ $# -gt 0 ]; then
  "$VENV/bin/python" -m pytest -q "$@" || tests=$?
else
  "$VENV/bin/python" -m pytest -q -n auto --dist loadfile -m "not slow" || tests=$?
fi
[ "$tests" -ne 0 ] && exit "$tests"
exit "$checks"
