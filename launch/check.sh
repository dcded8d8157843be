#!/usr/bin/env bash
# Checks format, lint and types, then runs all tests:
# bash launch/check.sh [pytest arguments...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$python" -m ruff format --check . \
  || fail "Format the files with: $python -m ruff format ."
"$python" -m ruff check .
"$python" -m mypy
exec bash launch/test.sh "$@"
