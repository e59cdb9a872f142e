#!/usr/bin/env bash
# ruff, mypy, the tests but the slow ones (scripts/test-slow.sh), then five minutes of the fault matrix, without the two
# faults that the clock judges (scripts/test-chaos.sh has all). Arguments go to pytest, and then there is no matrix. The
# exit code is that of the first that failed.
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
  faults=F1,F2,F3,F4,F5,F6,F7,F9,F10,F11,F12
  [ "$tests" -ne 0 ] || PYTHONPATH="$ROOT" "$VENV/bin/python" scripts/chaos.py --minutes 5 --only "$faults" || tests=$?
fi
[ "$tests" -ne 0 ] && exit "$tests"
exit "$checks"
