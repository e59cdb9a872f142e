#!/usr/bin/env bash
# The tests of many machines: installs the extra scale (datatrove, ray) into .venv-scale, starts a Ray cluster of two
# nodes on the loopback network, and demands the bytes of a run on one machine. Further arguments go to pytest.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment test
cd "$ROOT"
scale="$ROOT/.venv-scale"
stamp="$scale/.llmforge"
wanted=$(cat "$VENV/.llmforge-test")
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  say "making .venv-scale"
  rm -rf "$scale"
  "$VENV/bin/python" -m venv "$scale"
  # The packages of .venv are seen as they are; only what the extra adds is installed.
  "$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$(
    "$scale/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
  )/llmforge-environment.pth"
  "$scale/bin/python" -m pip install --disable-pip-version-check --quiet -c constraints.txt "datatrove>=0.10" "ray>=2.50"
  # uv may have taken this package's wheel for an older Python, which cannot start processes on this one; pip does not.
  "$scale/bin/python" -m pip install --disable-pip-version-check --quiet --ignore-installed --no-deps \
    -c constraints.txt multiprocess
  printf '%s' "$wanted" >"$stamp"
fi
exec "$scale/bin/python" -m pytest -q tests/cleaning/test_scale.py tests/stages/test_clean_scale.py "$@"
