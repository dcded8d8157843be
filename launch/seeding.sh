#!/usr/bin/env bash
# Which part of a night does what: every row of configs/seeding.py, and the
# table of them: bash launch/seeding.sh [workdir] [row ...]
#
# Run again with the same workdir it goes on where it stopped. The workdir is
# runs/seeding in the repository unless named.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

workdir=$root/runs/seeding
if [[ $# -gt 0 ]]; then
  workdir=$(absolute "$1")
  shift
fi
rows=("$@")
if [[ ${#rows[@]} -eq 0 ]]; then
  mapfile -t rows < <("$python" -m benchmarks.seeding --rows)
fi
for row in "${rows[@]}"; do
  "$python" -m sleep_jax.main --config="configs/seeding.py:$row" \
    --config.compile_cache="$workdir/compiled" --workdir="$workdir/$row"
done
"$python" -m benchmarks.seeding --folder="$workdir" --out="$workdir/table"
