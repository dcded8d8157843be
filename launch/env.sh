#!/usr/bin/env bash
# Creates the Python environment or reuses it. Sourced by the other scripts.
#
# Sets `root`, the repository, which becomes the current directory; `python`,
# the interpreter of the environment; and the functions `fail` and `absolute`.
# SLEEP_JAX_VENV is the folder of the environment; the default is .venv in the
# repository. SLEEP_JAX_MODELS names models to fetch, as "smollm2 gemma3-270m",
# for the tests that compare real ones; by default none. smollm2 has 93 MB.
set -euo pipefail

fail() {
  echo "$*" >&2
  exit 1
}

# Prints a path, relative to the directory of the caller, as an absolute path.
absolute() {
  [[ $1 == /* || $1 == *://* ]] && echo "$1" || echo "$caller/$1"
}

caller=$PWD
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$(absolute "${SLEEP_JAX_VENV:-$root/.venv}")
cd "$root"

# Prints the first Python that can create an environment, or fails and lists the
# candidates. Each is run to test it: a name on PATH may be a shim for a version
# that is not installed.
find_python() {
  local found='' name path version
  local ask='import platform; print(platform.python_version())'
  for name in python3.12 python3.11 python3; do
    while read -r path; do
      if ! version=$("$path" -c "$ask" 2>/dev/null); then
        found+="  $path: does not run"$'\n'
      elif ! "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        found+="  $path: $version, too old"$'\n'
      elif ! "$path" -c 'import ensurepip, venv' 2>/dev/null; then
        found+="  $path: $version, without venv (apt: python3-venv)"$'\n'
      else
        echo "$path"
        return
      fi
    done < <(type -aP "$name")
  done
  fail "Python 3.11 or newer is needed to create $venv, and was not found." \
    "Tried:"$'\n'"${found:-  no python3 on PATH}"
}

# Written after a complete installation, so that an incomplete one is repeated.
stamp=$venv/requirements.installed
python=$venv/bin/python

runs() {
  "$python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' \
    2>/dev/null
}

if runs && cmp -s requirements.txt "$stamp"; then
  echo "Environment: $venv, reused."
else
  SECONDS=0
  if ! runs; then
    if [[ -n $(ls -A "$venv" 2>/dev/null) && ! -e $venv/pyvenv.cfg ]]; then
      fail "$venv is not a Python environment. Creating one would delete its" \
        "files: delete the folder, or set SLEEP_JAX_VENV to another folder."
    fi
    base=$(find_python)
    echo "Environment: creating $venv with $("$base" --version)."
    "$base" -m venv --clear "$venv"
  fi
  rm -f "$stamp"
  echo 'Environment: installing requirements.txt (about 1.1 GB).'
  "$python" -m pip install --quiet --disable-pip-version-check --no-input \
    --requirement requirements.txt \
    || fail "The installation failed, see above. Run the same command again;" \
      "if it fails again, delete $venv."
  cp requirements.txt "$stamp"
  echo "Environment: installed in $SECONDS s."
fi

for model in ${SLEEP_JAX_MODELS:-}; do
  "$python" -m sleep_jax convert fetch "$model" \
    || fail "The model $model could not be fetched, see above."
done
