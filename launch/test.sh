#!/usr/bin/env bash
# All tests: bash launch/test.sh [pytest arguments...]
#
# In one process: two would compile most programs twice, and one uses both
# cores already.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$python" -m pytest -q "$@"
