#!/usr/bin/env bash
# Raw text to a model to talk to: makes .venv when it is not there, then runs configs/quickstart.yaml.
# Further arguments go to `llmforge run`, such as clean.sources.0.path=MY_FOLDER output_dir=runs/mine
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment runtime

# The configs' paths are those of the repository, the caller's those of the folder he stands in.
arguments=()
for argument in "$@"; do
  value=${argument#*=}
  if [ "$value" != "$argument" ] && [ -n "$value" ] && [ "${value#/}" = "$value" ] && [ -e "$PWD/$value" ]; then
    argument="${argument%%=*}=$PWD/$value"
  fi
  arguments+=("$argument")
done
cd "$ROOT"
exec "$VENV/bin/python" -m llmforge run --config configs/quickstart.yaml ${arguments[@]+"${arguments[@]}"}
