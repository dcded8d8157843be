#!/usr/bin/env bash
# What a chat keeps of a text is traced, and the text is erased:
# bash benchmarks/user_trials/forget.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cp "$trials/chat_small.py" .
"$python" "$root/launch/tiny_llama.py" MODEL
chat=(sleep-jax chat --model=MODEL --workdir=talk --config=chat_small.py
  --max_new=4)
secret='My code word is marzipan dragon forty.'

# Types lines into the chat.
talk() {
  printf '%s\n' "$@" > lines
  show "${chat[@]}" < lines
}

say 'Two days with a night each; the first holds a secret.'
talk "$secret" /sleep 'Bo lives in Bergen.' /sleep /status /quit
show sleep-jax trace "$secret" --workdir=talk

say '/forget 1 switches the expert off; the text stays.'
talk '/forget 1' /status /quit
show sleep-jax trace "$secret" --workdir=talk

say '/forget 1 --erase: first no, then yes.'
talk '/forget 1 --erase' n '/forget 1 --erase' y /status /quit
show sleep-jax trace "$secret" --workdir=talk
show sleep-jax trace 'Bo lives in Bergen.' --workdir=talk
show grep -rlia marzipan talk

say 'The last night goes back to the checkpoint before its day.'
talk '/forget 2 --erase' y /status 'Cy has a hen.' /sleep /status /quit
show sleep-jax trace 'Bo lives in Bergen.' --workdir=talk

say 'What cannot be forgotten.'
talk '/forget' '/forget 9' '/forget one' '/forget 1 --erase' /quit
