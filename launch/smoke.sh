#!/usr/bin/env bash
# Runs a small complete study in minutes:
# bash launch/smoke.sh [workdir] [flags...]
#
# The same workdir resumes. The default workdir is runs/smoke in the repository.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

workdir=$root/runs/smoke
if [[ $# -gt 0 && $1 != -* ]]; then
  workdir=$(absolute "$1")
  shift
fi
exec "$python" launch/measure.py "$python" -m sleep_jax.main \
  --config=configs/smoke.py --workdir="$workdir" "$@"
