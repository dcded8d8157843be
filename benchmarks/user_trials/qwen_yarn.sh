#!/usr/bin/env bash
# A Qwen 3 with yarn is inspected, asked, and taught in a chat; its greedy
# answers are compared with those of transformers:
# TRIALS_PARITY_PYTHON=PYTHON bash benchmarks/user_trials/qwen_yarn.sh
#
# PYTHON has torch and transformers; launch/parity.sh makes .venv-parity.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

parity=${TRIALS_PARITY_PYTHON:-$root/.venv-parity/bin/python}
cp "$trials/chat_small.py" .
"$parity" "$trials/yarn_model.py" MODEL > /dev/null 2>&1

say 'The model.'
show grep -A 5 rope_parameters MODEL/config.json
show sleep-jax convert inspect --model=MODEL

say 'Greedy answers are those of transformers: a short and a long message.'
short='Where does Ann live?'
long=$(printf 'Ann lives in Oslo and keeps a cat. %.0s' {1..60})
for message in "$short" "$long"; do
  sleep-jax generate --model=MODEL --chat --prompt="$message" --max_new=40 \
    > ours
  "$parity" "$trials/yarn_model.py" MODEL --ask "$message" 40 \
    2> /dev/null > theirs
  echo "message of ${#message} characters, 40 tokens:" \
    "$(cmp -s ours theirs && echo equal || echo different)"
done

say 'A chat with one night.'
chat=(sleep-jax chat --model=MODEL --workdir=talk --config=chat_small.py
  --max_new=12)
printf '%s\n' 'Ann lives in Oslo.' /sleep 'Where does Ann live?' /status /quit \
  > lines
show "${chat[@]}" < lines

say 'The same chat again.'
printf '%s\n' /status /quit > lines
show "${chat[@]}" < lines
