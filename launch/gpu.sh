#!/usr/bin/env bash
# A study on the NVIDIA GPUs of this machine:
# bash launch/gpu.sh [--cuda=12|13] [--dry-run] --config=... --workdir=...
#
# Makes the environment, installs jax for CUDA into it (as new as the driver
# allows, unless --cuda says which) and hands all other flags to
# sleep_jax.main; their paths are seen from the repository. --dry-run prints
# every command and runs none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/steps.sh

cuda='' study=()
for flag in "$@"; do
  case $flag in
    --cuda=12 | --cuda=13) cuda=${flag#*=} ;;
    --cuda*) fail "$flag: expected --cuda=12 or --cuda=13." ;;
    --dry-run) dry_run=yes ;;
    *) study+=("$flag") ;;
  esac
done

# The newest CUDA that the driver can run: 13 from 580 on, 12 from 525 on.
cuda_of_driver() {
  local driver
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader) \
    || fail 'nvidia-smi finds no GPU, see above.'
  driver=${driver%%.*}
  if [[ $driver -ge 580 ]]; then
    echo 13
  elif [[ $driver -ge 525 ]]; then
    echo 12
  else
    fail "the NVIDIA driver is $driver; jax needs 525 (CUDA 12) or newer, 580" \
      'for CUDA 13. Update the driver.'
  fi
}

if type -P nvidia-smi >/dev/null; then
  cuda=${cuda:-$(cuda_of_driver)}
elif [[ -z $dry_run ]]; then
  fail 'nvidia-smi is missing: there is no NVIDIA driver here. Install it, or' \
    'run on the CPU: python -m sleep_jax.main ... in .venv.'
fi
python=${SLEEP_JAX_VENV:-.venv}/bin/python
step bash launch/env.sh
# Pinned as the rest, or jax and its plugin would part.
step "$python" -m pip install --quiet --disable-pip-version-check --no-input \
  --constraint=requirements.txt "jax[cuda${cuda:-13}]"
step exec "$python" -m sleep_jax.main ${study[@]+"${study[@]}"}
