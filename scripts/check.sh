#!/usr/bin/env bash
# ruff and mypy over the whole tree, in the environment of the tests.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment test
cd "$ROOT"
status=0
"$VENV/bin/python" -m ruff check --quiet . || status=1
"$VENV/bin/python" -m mypy --no-error-summary || status=1
exit "$status"
