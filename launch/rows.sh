#!/usr/bin/env bash
# Runs the rows of an ablation study (configs/STUDY.py) and writes their table:
# bash launch/rows.sh STUDY [workdir] [row ...]
#
# STUDY is seeding, dream, ten_dreams, small/table1 or small/table3.
# The same workdir resumes. The default workdir is runs/STUDY in the repository;
# the default is all rows.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

study=${1:-}
[[ $study =~ ^(seeding|dream|ten_dreams|small/table[13])$ ]] \
  || fail "usage: bash launch/rows.sh" \
    "seeding|dream|ten_dreams|small/table1|small/table3 [workdir]" \
    "[row ...]; got '$study'"
shift
workdir=$root/runs/$study
if [[ $# -gt 0 ]]; then
  workdir=$(absolute "$1")
  shift
fi
rows=("$@")
if [[ ${#rows[@]} -eq 0 ]]; then
  mapfile -t rows < <("$python" -m benchmarks.rows --study="$study" --rows)
fi
for row in "${rows[@]}"; do
  "$python" -m sleep_jax.main --config="configs/$study.py:$row" \
    --config.compile_cache="$workdir/compiled" --workdir="$workdir/$row"
done
"$python" -m benchmarks.rows --study="$study" --folder="$workdir" \
  --out="$workdir/table"
