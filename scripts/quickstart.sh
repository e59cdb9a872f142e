#!/usr/bin/env bash
# Raw text to a model to talk to: makes .venv when it is not there, then runs configs/quickstart.yaml.
# Further arguments go to `llmforge run`, such as clean.sources.0.path=MY_FOLDER output_dir=runs/mine
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment runtime

# The configs' paths are those of the repository; what the caller names lies in the folder he stands in.
here=$(pwd -P)
arguments=()
for argument in "$@"; do
  key=${argument%%=*} value=${argument#*=}
  if [ "$here" != "$ROOT" ] && [ "$key" != "$argument" ] && [ -n "$value" ] && [ "${value#/}" = "$value" ] &&
    { [ "${key##*.}" = output_dir ] || [ -e "$here/$value" ]; }; then
    argument="$key=$here/$value"
  fi
  arguments+=("$argument")
done
cd "$ROOT"
exec "$VENV/bin/python" -m llmforge run --config configs/quickstart.yaml ${arguments[@]+"${arguments[@]}"}
