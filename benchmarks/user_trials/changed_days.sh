#!/usr/bin/env bash
# A learned day is deleted, edited or renamed, or a day is added before it; each
# choice of the message is tried:
# bash benchmarks/user_trials/changed_days.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

run=(sleep-jax run --config=small.py --config.data.path=days --workdir=life)
mkdir days
printf '{"text": "%s"}\n' 'Ann has a cat.' 'Ann is a cook.' > days/day_1.jsonl
printf '{"text": "%s"}\n' 'Bo has a dog.' 'Bo is a clerk.' > days/day_2.jsonl
printf '{"text": "%s"}\n' 'Cy has a hen.' 'Cy is a smith.' > days/day_3.jsonl
"${run[@]}" > /dev/null 2>&1
cp -r days "$folder/days"
cp -r life "$folder/life"

# Puts the days and the work directory back as they were after three days.
again() {
  rm -rf days life
  cp -r "$folder/days" days
  cp -r "$folder/life" life
}

say 'day_2 is deleted.'
rm days/day_2.jsonl
show "${run[@]}"

say 'First choice: the file is restored.'
cp "$folder/days/day_2.jsonl" days
show "${run[@]}"

say 'Second choice: what was learned stays; a new day is learned after it.'
rm days/day_2.jsonl
printf '{"text": "%s"}\n' 'Di has a goat.' > days/day_4.jsonl
show "${run[@]}" --accept_changed_days
show "${run[@]}"

say 'Third choice: back to the end of day 1.'
again
rm days/day_2.jsonl
show "${run[@]}" --restore_cycle=1
show "${run[@]}"

say 'day_2 is edited, day_3 is renamed, day_0 is added.'
again
printf '{"text": "%s"}\n' 'Bo has a cow.' 'Bo is a clerk.' > days/day_2.jsonl
mv days/day_3.jsonl days/wednesday.jsonl
printf '{"text": "%s"}\n' 'Ed has a bee.' > days/day_0.jsonl
show "${run[@]}"
show "${run[@]}" --accept_changed_days
show "${run[@]}"

say 'Rows are appended to day_3.'
again
printf '{"text": "%s"}\n' 'Cy sings.' >> days/day_3.jsonl
show "${run[@]}"
show "${run[@]}" --restore_cycle=2
