#!/usr/bin/env bash
# Runs all tests: bash launch/test.sh [pytest arguments...]
#
# Uses two processes with a shared compilation cache; `-n 0` uses one. Files
# start in the order of tests/conftest.py.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$python" -m pytest -q -n 2 --dist loadfile \
  --no-loadscope-reorder "$@"
