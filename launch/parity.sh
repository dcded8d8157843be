#!/usr/bin/env bash
# Compares models, templates and scores with transformers and lm-eval:
# bash launch/parity.sh [pytest arguments...]
#
# The libraries are in an environment of their own, .venv-parity or the folder
# SLEEP_JAX_PARITY_VENV, with the versions of launch/parity_requirements.txt.
# For torch without CUDA, set PIP_EXTRA_INDEX_URL to the index of those builds.
set -euo pipefail
launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
SLEEP_JAX_VENV=${SLEEP_JAX_PARITY_VENV:-$(dirname "$launch")/.venv-parity}
source "$launch/env.sh"

wanted=launch/parity_requirements.txt
installed=$venv/parity_requirements.installed
if ! cmp -s "$wanted" "$installed"; then
  echo "Environment: installing $wanted (about 6 GB with CUDA)."
  rm -f "$installed"
  "$python" -m pip install --quiet --disable-pip-version-check --no-input \
    --constraint requirements.txt --requirement "$wanted" \
    || fail "The installation failed, see above. Run the same command again;" \
      "if it fails again, delete $venv."
  cp "$wanted" "$installed"
fi
"$python" -c '
import importlib.metadata as metadata
for name in ("jax", "torch", "transformers", "lm_eval", "datasets"):
  print(name, metadata.version(name))
'
exec "$python" -m pytest -q -n 0 tests/parity \
  tests/interop/transformers_parity_test.py tests/interop/hf_export_test.py \
  "$@"
