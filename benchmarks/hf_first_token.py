"""Answers a message with transformers, for `benchmarks.first_token`.

This script runs in an environment with torch and transformers, which this
project does not require: python hf_first_token.py FOLDER MESSAGE TOKENS. Each
token of the answer is printed as soon as it is known.
"""

import sys


def main():
  import torch
  import transformers

  torch.set_num_threads(1)
  folder, message, num_tokens = sys.argv[1:]
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32
  ).eval()
  inputs = tokenizer.apply_chat_template(
    [{'role': 'user', 'content': message}], add_generation_prompt=True,
    return_tensors='pt', return_dict=True,
  )  # fmt: skip

  class Printer(transformers.generation.streamers.BaseStreamer):
    is_prompt = True

    def put(self, value):
      if not self.is_prompt:
        text = tokenizer.decode(value, skip_special_tokens=True)
        print(text, end='', flush=True)
      self.is_prompt = False

    def end(self):
      print()

  with torch.no_grad():
    model.generate(
      **inputs, do_sample=False, max_new_tokens=int(num_tokens),
      streamer=Printer(),
    )  # fmt: skip


if __name__ == '__main__':
  main()
