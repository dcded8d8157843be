#!/usr/bin/env bash
# A chat export in the format of Hugging Face is checked, and learned by a tiny
# Llama with the defaults of the guide:
# bash benchmarks/user_trials/chat_export.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$python" "$root/launch/tiny_llama.py" MODEL
"$python" - <<'PYTHON'
"""Writes 30 conversations: system turns, several turns, contents in parts."""
import json

names = ('Ann', 'Bo', 'Cy', 'Di', 'Ed', 'Flo')
with open('export.jsonl', 'w') as file:
  for number in range(30):
    name = names[number % len(names)]
    question = f'Where does {name} live, and since when?'
    if number % 5 == 0:
      question = [{'type': 'text', 'text': question}]
    turns = [
      {'role': 'user', 'content': question},
      {'role': 'assistant', 'content': f'{name} has lived in Oslo for {number} years.'},
    ]
    if number % 3 == 0:
      turns.insert(0, {'role': 'system', 'content': 'You are a helpful assistant.'})
    if number % 4 == 0:
      turns += [
        {'role': 'user', 'content': 'And what does that mean for the garden? ' * 4},
        {'role': 'assistant', 'content': f'{name} waters it {number} times a year.'},
      ]
    print(json.dumps({'id': number, 'messages': turns}), file=file)
PYTHON

say 'The export is checked for the model.'
show head -n 1 export.jsonl
show sleep-jax check-data export.jsonl --model=MODEL

say 'A run: the levels of small.py, the lengths of configs/jsonl.py.'
run=(sleep-jax run --config=small.py --config.data.path=export.jsonl
  --config.pretrain.base_model=MODEL --workdir=life
  --config.data.max_prompt=64 --config.data.context=128)
show "${run[@]}"

say 'With the values of the message.'
long=("${run[@]}" --config.data.max_prompt=309 --config.data.context=340)
show "${long[@]}"

say 'Everything is read and rehearsed, as the warning says.'
show "${long[@]}" --config.wake.epochs=1 --config.consolidate.prompt_width=309 \
  --config.consolidate.max_length=317 --workdir=whole

say 'Or without the long rows.'
show "${run[@]}" --config.data.too_long=skip --workdir=shorter
