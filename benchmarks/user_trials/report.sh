#!/usr/bin/env bash
# A run with probes and a row that is too long; its report becomes a picture:
# bash benchmarks/user_trials/report.sh PICTURE.png
#
# CHROMIUM is a browser that can take pictures without a display.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -eq 1 ]] || {
  echo 'Usage: bash benchmarks/user_trials/report.sh PICTURE.png' >&2
  exit 1
}
picture=$(cd "$OLDPWD" && realpath "$1")
mkdir days
printf '{"text": "%s"}\n' 'Ann has a cat.' 'Ann is a cook.' > days/day_1.jsonl
{
  printf '{"text": "Row %d is short."}\n' {1..40}
  echo '{"text": "<script>alert(1)</script> This row is much too long for it."}'
} > 'days/day_2 (holiday).jsonl'
echo '{"prompt": "Ann has a", "answer": " cat."}' > probes.jsonl
show sleep-jax run --config=small.py --config.data.path=days \
  --config.data.settings.probes=probes.jsonl --config.data.too_long=skip \
  --workdir=life
show grep -c '<script>' life/report.html
"${CHROMIUM:-chromium}" --headless --no-sandbox --disable-gpu \
  --hide-scrollbars --window-size=1100,3700 --screenshot="$picture" \
  "file://$PWD/life/report.html" > /dev/null 2>&1
