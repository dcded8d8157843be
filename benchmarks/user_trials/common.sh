#!/usr/bin/env bash
# What the trials share: a temporary folder, and a transcript on standard output.
# Sourced by the other scripts.
#
# SLEEP_JAX_PYTHON is the Python that has the requirements; the default is that
# of .venv in the repository. The current directory becomes a new temporary
# folder, which is deleted at the end.
set -euo pipefail

trials=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(cd "$trials/../.." && pwd -P)
python=${SLEEP_JAX_PYTHON:-$root/.venv/bin/python}
[[ -x $python ]] || {
  echo "$python does not exist: run launch/env.sh or set SLEEP_JAX_PYTHON." >&2
  exit 1
}
export PYTHONPATH=$root
export PYTHONDONTWRITEBYTECODE=1
# Programs are compiled once per trial.
export JAX_COMPILATION_CACHE_DIR
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
JAX_COMPILATION_CACHE_DIR=$folder/compiled
mkdir "$folder/user"
cd "$folder/user"
cp "$trials/small.py" .

# Prints a line that says what is tried.
say() {
  printf '\n# %s\n' "$*"
}

# Prints a command, runs it, and prints its output and exit status, without the
# table of results and with short paths. TRIALS_WHOLE=1 keeps the table.
show() {
  local status=0 word line='' hidden
  for word in "$@"; do
    [[ $word =~ ^[][A-Za-z0-9_./:=,@%+-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+=" $word"
  done
  echo "\$$line"
  hidden=(-e "s#$folder/user/##g" -e "s#$folder/user#.#g" -e "s#$root/##g")
  [[ -n ${TRIALS_WHOLE:-} ]] \
    || hidden+=(-e '/^strategy, /,/^  harm of the cycle/d')
  { "$@" 2>&1 || status=$?; } > "$folder/output"
  sed "${hidden[@]}" "$folder/output"
  [[ $status -eq 0 ]] || echo "(exit status $status)"
}

sleep-jax() {
  "$python" -m sleep_jax "$@"
}
