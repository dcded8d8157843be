#!/usr/bin/env bash
# Runs a study on the NVIDIA GPUs of this machine:
# bash launch/gpu.sh [--cuda=12|13] [--dry-run] --config=... --workdir=...
#
# Creates the environment, installs jax for CUDA (the newest version that the
# driver supports, or that of --cuda) and passes all other flags to
# sleep_jax.main. Paths in them are relative to the repository. --dry-run prints
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

# Prints the newest CUDA that the driver supports: 13 from 580, 12 from 525.
cuda_of_driver() {
  local driver
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader) \
    || fail 'nvidia-smi found no GPU, see above.'
  driver=${driver%%.*}
  if [[ $driver -ge 580 ]]; then
    echo 13
  elif [[ $driver -ge 525 ]]; then
    echo 12
  else
    fail "the NVIDIA driver is $driver: expected 525 (CUDA 12) or newer, or" \
      '580 (CUDA 13) or newer. Update the driver.'
  fi
}

if type -P nvidia-smi >/dev/null; then
  cuda=${cuda:-$(cuda_of_driver)}
elif [[ -z $dry_run ]]; then
  fail 'nvidia-smi is missing: no NVIDIA driver is installed. Install it, or' \
    'run on the CPU: python -m sleep_jax.main ... in .venv.'
fi
python=${SLEEP_JAX_VENV:-.venv}/bin/python
step bash launch/env.sh
# Constrained, so that jax and its plugin have the same version.
step "$python" -m pip install --quiet --disable-pip-version-check --no-input \
  --constraint=requirements.txt "jax[cuda${cuda:-13}]"
step exec "$python" -m sleep_jax.main ${study[@]+"${study[@]}"}
