# Makes the environment in .venv from constraints.txt; sourced by quickstart.sh, test.sh and check.sh.
#
#   ensure_environment runtime|test    afterwards "$ROOT/.venv/bin/python" has llmforge and what it needs
#
# A stamp over pyproject.toml, constraints.txt and the Python version skips all of it, so later starts need no network.
# LLMFORGE_PYTHON names the Python to use; LLMFORGE_TORCH the build of torch: auto, default (what the package index
# has), cpu, cu126, cu128 and so on (uv's --torch-backend).

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV="$ROOT/.venv"

say() { printf 'llmforge: %s\n' "$*" >&2; }

fail() {
  say "$1"
  exit 2
}

# A Python that runs (a version manager's shim may not) and is new enough; 3.11 to 3.13 have wheels of everything.
find_python() {
  local candidate newest='(3, 13)'
  for newest in '(3, 13)' '(3, 99)'; do
    for candidate in ${LLMFORGE_PYTHON:+"$LLMFORGE_PYTHON"} python3 python3.13 python3.12 python3.11 python; do
      if "$candidate" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= $newest)" >/dev/null 2>&1; then
        command -v "$candidate"
        return 0
      fi
    done
  done
  return 1
}

venv_runs() { "$VENV/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

make_venv() {
  venv_runs && return
  # One that another tool made without pip is kept.
  "$VENV/bin/python" -m ensurepip >/dev/null 2>&1 && venv_runs && return
  local python version
  python=$(find_python) || fail "Python 3.11 or newer is needed and none was found; install one, or set LLMFORGE_PYTHON"
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  rm -rf "$VENV"
  say "making .venv with Python $version"
  if ! "$python" -m venv "$VENV" >"$LOG" 2>&1 || ! venv_runs; then
    rm -rf "$VENV"
    if "$python" -c 'import ensurepip' >/dev/null 2>&1; then
      tail -n 5 "$LOG" >&2
      fail "$python cannot make an environment (see above)"
    fi
    fail "this Python lacks its venv part; type: sudo apt install python$version-venv   and start again"
  fi
}

# What the environment was made of; the folder counts because llmforge is installed from where it lies.
stamp_text() {
  "$VENV/bin/python" - "$1" "$ROOT" "${LLMFORGE_TORCH:-auto}" <<'PYTHON'
import hashlib, pathlib, sys

kind, root, torch = sys.argv[1:]
files = [pathlib.Path(root, name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
print(kind, sys.version.split()[0], torch, root, hashlib.sha256(b"\0".join(files)).hexdigest())
PYTHON
}

stamped() { [ -f "$VENV/.llmforge-$1" ] && [ "$(cat "$VENV/.llmforge-$1")" = "$(stamp_text "$1")" ]; }

quietly() { "$@" >>"$LOG" 2>&1; }

pip_install() { quietly "$VENV/bin/python" -m pip install --no-compile --disable-pip-version-check --no-input "$@"; }

# uv that runs: the user's, or one put into the environment.
find_uv() {
  if uv --version >/dev/null 2>&1; then
    command -v uv
  elif "$VENV/bin/uv" --version >/dev/null 2>&1 || pip_install -c "$ROOT/constraints.txt" uv; then
    printf '%s\n' "$VENV/bin/uv"
  else
    return 1
  fi
}

uv_install() {
  local line
  local options=()
  while IFS= read -r line; do
    case "$line" in
      SSL_CERT_FILE=*) [ -n "${SSL_CERT_FILE:-}" ] || export "${line?}" ;;
      --*) options+=("$line") ;;
    esac
  done < <("$VENV/bin/python" "$ROOT/scripts/index_options.py")
  quietly "$UV" pip install --python "$VENV/bin/python" --constraints "$ROOT/constraints.txt" \
    ${options[@]+"${options[@]}"} "$@"
}

has_nvidia() { [ -e /proc/driver/nvidia/version ] || nvidia-smi -L >/dev/null 2>&1; }

# A folder of wheels that pip is configured with holds a torch of the wanted version: the user's choice of a build.
torch_in_link_folders() {
  local place version
  version=$(sed -n 's/^torch==//p' "$ROOT/constraints.txt")
  while IFS= read -r place; do
    compgen -G "${place#file://}/torch-$version*.whl" >/dev/null && return 0
  done < <("$VENV/bin/python" "$ROOT/scripts/index_options.py" find-links)
  return 1
}

install_torch() {
  local build=${LLMFORGE_TORCH:-auto} torch
  torch=$(grep '^torch==' "$ROOT/constraints.txt")
  if [ "$build" = auto ]; then
    if torch_in_link_folders; then
      pip_install -c "$ROOT/constraints.txt" "$torch" && return
    fi
    # Only Linux has CUDA inside its default build: 3 GB that a machine without such a card cannot use.
    if [ "$(uname -s)" != Linux ] || has_nvidia; then return; fi
    build=cpu
  fi
  if [ "$build" = default ] || [ -z "$UV" ]; then return; fi
  # The builds of torch lie on a server of their own, which may be out of reach: ask for a short time only.
  if UV_HTTP_TIMEOUT=10 UV_HTTP_RETRIES=1 quietly timeout_after 40 "$UV" pip install --dry-run \
    --python "$VENV/bin/python" --torch-backend "$build" "$torch"; then
    uv_install --torch-backend "$build" "$torch" && return
  fi
  [ -z "${LLMFORGE_TORCH:-}" ] || [ "$LLMFORGE_TORCH" = auto ] || fail "torch's build '$build' could not be installed"
  say "torch's CPU build is out of reach; the package index's default build is larger and takes longer"
}

# macOS has no `timeout`.
timeout_after() {
  if command -v timeout >/dev/null 2>&1; then timeout "$@"; else shift && "$@"; fi
}

install() {
  local what="$ROOT"
  [ "$1" = test ] && what="$ROOT[test]"
  UV=$(find_uv) || UV=""
  install_torch
  if [ -n "$UV" ] && uv_install -e "$what"; then return; fi
  pip_install -c "$ROOT/constraints.txt" -e "$what" && return
  tail -n 15 "$LOG" >&2
  fail "the packages could not be installed (see above); nothing is kept of it, start again when the index is there"
}

ensure_environment() {
  LOG=$(mktemp "${TMPDIR:-/tmp}/llmforge-install-XXXXXX")
  trap 'rm -f "$LOG"' EXIT
  make_venv
  if ! stamped "$1"; then
    local started=$SECONDS
    say "installing packages into .venv (about half a minute with a fast network)"
    install "$1"
    stamp_text runtime >"$VENV/.llmforge-runtime"
    stamp_text "$1" >"$VENV/.llmforge-$1"
    say "installed in $((SECONDS - started)) s"
  fi
  rm -f "$LOG"
  trap - EXIT
}
