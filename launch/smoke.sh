#!/usr/bin/env bash
# The whole loop, small, in minutes: bash launch/smoke.sh [workdir] [flags...]
#
# Run again with the same workdir it goes on where it stopped. The workdir is
# runs/smoke in the repository unless named.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

workdir=$root/runs/smoke
if [[ $# -gt 0 && $1 != -* ]]; then
  workdir=$(absolute "$1")
  shift
fi
exec "$python" launch/measure.py "$python" -m sleep_jax.main \
  --config=configs/smoke.py --workdir="$workdir" "$@"
