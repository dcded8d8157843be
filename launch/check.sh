#!/usr/bin/env bash
# Format, lint, types, tests: bash launch/check.sh [pytest arguments...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$python" -m ruff format --check . \
  || fail "Mend with: $python -m ruff format ."
"$python" -m ruff check .
"$python" -m mypy
exec bash launch/test.sh "$@"
