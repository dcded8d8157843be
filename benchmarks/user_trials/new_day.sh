#!/usr/bin/env bash
# Two days are learned, then a third is added whose name sorts first as text:
# bash benchmarks/user_trials/new_day.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

run=(sleep-jax run --config=small.py --config.data.path=days --workdir=life)
mkdir days
printf '{"text": "%s"}\n' 'Ann has a cat.' 'Ann is a cook.' > days/day_8.jsonl
printf '{"text": "%s"}\n' 'Bo has a dog.' 'Bo is a clerk.' > days/day_9.jsonl

say 'Two days.'
show "${run[@]}"

say 'A third day, day_10. It is learned next, and nothing twice.'
printf '{"text": "%s"}\n' 'Cy has a hen.' 'Cy is a smith.' > days/day_10.jsonl
show "${run[@]}"

say 'What the run records of its days.'
show cat life/seed_0/days.json
show grep -c '"kind": "night"' life/seed_0/sleep/metrics.jsonl

say 'The same command again.'
show "${run[@]}"
