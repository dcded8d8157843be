#!/usr/bin/env bash
# All tests: bash launch/test.sh [pytest arguments...]
#
# Two processes, which share what they compile; `-n 0` for one. Files are begun
# in the order of tests/conftest.py.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$python" -m pytest -q -n 2 --dist loadfile \
  --no-loadscope-reorder "$@"
