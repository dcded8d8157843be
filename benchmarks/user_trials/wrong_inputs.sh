#!/usr/bin/env bash
# Wrong inputs to every command:
# bash benchmarks/user_trials/wrong_inputs.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$python" "$root/launch/tiny_llama.py" MODEL
mkdir days empty
printf '{"text": "%s"}\n' 'Ann has a cat.' 'Ann is a cook.' > days/day_1.jsonl
printf '{"txet": "Ann has a cat."}\n' > typo.jsonl

# Shows a command whose message stands after the help text.
show_end() {
  local output
  output=$(show "$@")
  head -n 1 <<< "$output"
  tail -n 2 <<< "$output"
}

say 'run: a misspelled config, field and file; a text for a number.'
show sleep-jax run --config=smok --workdir=life
show sleep-jax run --config=small.py --config.data.path=days \
  --config.wake.step=3 --workdir=life
show sleep-jax run --config=small.py --config.data.path=dayz --workdir=life
show sleep-jax run --config=small.py --config.data.path=typo.jsonl \
  --workdir=life
show sleep-jax run --config=small.py --config.data.path=days \
  --config.wake.steps=many --workdir=life
show sleep-jax run --config=small.py --config.data.path=days \
  --config.wake.steps=-1 --workdir=life
show sleep-jax run --config=small.py --config.data.path=days
show sleep-jax run small.py --workdir=life
show sleep-jax run --config.wake.steps=3 --workdir=life

say 'chat: no model, an empty folder, a model without tokenizer.'
show sleep-jax chat --workdir=talk
show sleep-jax chat --model=empty --workdir=talk
cp -r MODEL no_tokenizer
rm no_tokenizer/tokenizer.json
show sleep-jax chat --model=no_tokenizer --workdir=talk
show sleep-jax chat --model=MODEL --workdir=MODEL

say 'generate: no prompt, a temperature below 0, too many tokens.'
show sleep-jax generate --model=MODEL
show sleep-jax generate --model=MODEL --prompt=Ann --temperature=-1
show sleep-jax generate --model=MODEL --prompt=Ann --max_new=1000
show sleep-jax generate --model=MODEL --prompt=''
show sleep-jax generate --model=life --prompt=Ann

say 'convert: no action, a target that exists, a run that does not.'
show_end sleep-jax convert --model=MODEL
show sleep-jax convert out --model=MODEL --to=days
show sleep-jax convert in --model=MODEL --to=days
show sleep-jax convert inspect --model=lost
show_end sleep-jax convert export --model=MODEL --to=new

say 'plan: an unknown topology and config.'
show sleep-jax plan --config=small.py
show sleep-jax plan --config=small.py --topology=v9:4x4
show sleep-jax plan --config=small.py --topology=v5e:4by4
show sleep-jax plan --topology=v5e:4x4

say 'trace: no text, no folder, a folder that is not a work directory.'
show_end sleep-jax trace --workdir=days
show sleep-jax trace 'Ann has' --workdir=lost
show sleep-jax trace 'Ann has' --workdir=empty
show sleep-jax trace '' --workdir=days

say 'check-data: no path, an empty folder, a file that is not rows.'
show_end sleep-jax check-data
show sleep-jax check-data empty
show sleep-jax check-data typo.jsonl
show sleep-jax check-data MODEL/model.safetensors
show sleep-jax check-data days --model=empty

say 'A command that does not exist.'
show sleep-jax learn days
