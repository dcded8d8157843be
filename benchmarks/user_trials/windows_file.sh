#!/usr/bin/env bash
# Days that were written on Windows: CRLF, a byte order mark, UTF-16, spaces in
# names, an ending in capitals, curly quotes:
# bash benchmarks/user_trials/windows_file.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

run=(sleep-jax run --config=small.py --config.data.path=days --workdir=life)
mkdir days

say 'Byte order mark, CRLF, spaces and capitals in the name, curly quotes.'
# shellcheck disable=SC1112  # The curly quotes are what is tried.
printf '\xef\xbb\xbf{"text": "%s"}\r\n{"text": "%s"}\r\n' \
  'Ann says “hello” – and leaves.' 'Zoë’s cat sleeps…' > 'days/Day 1 (Work).JSONL'
show od -A n -c -N 24 'days/Day 1 (Work).JSONL'
show sleep-jax check-data days --config=small.py

say 'UTF-16, as of "Save as: Unicode".'
printf '{"text": "%s"}\n' 'Bo has a dog.' \
  | iconv -f UTF-8 -t UTF-16 > 'days/Day 2.jsonl'
show "${run[@]}"

say 'Converted to UTF-8 with iconv; on Windows, an editor does it.'
iconv -f UTF-16 -t UTF-8 'days/Day 2.jsonl' > converted
mv converted 'days/Day 2.jsonl'
show "${run[@]}"

say 'Curly quotes instead of straight ones around a field.'
printf '{“text”: “%s”}\n' 'Cy has a hen.' > 'days/Day 3.jsonl'
show "${run[@]}"

say 'Windows-1252, as of an old editor.'
printf '{"text": "Zo\xeb has a goat."}\r\n' > 'days/Day 3.jsonl'
show "${run[@]}"
iconv -f WINDOWS-1252 -t UTF-8 'days/Day 3.jsonl' > converted
mv converted 'days/Day 3.jsonl'
show "${run[@]}"
