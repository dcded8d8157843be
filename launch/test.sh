#!/usr/bin/env bash
# All tests: bash launch/test.sh [pytest arguments...]
#
# Two processes, a file staying within one so that its compiled programs are
# shared; `-n 0` runs everything in one, for a debugger.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec "$python" -m pytest -q -n 2 --dist loadfile "$@"
