"""Runs trials of dreams with PEFT, for comparison with ours.

This script runs in an environment with torch, transformers and peft, which this
project does not require. `benchmarks.trials --peft=PYTHON` calls it. The model
is a Llama with as many parameters as ours. For each dream an adapter is
attached, trained, scored and unloaded. It prints a line of JSON.
"""

import json
import statistics
import time

VOCAB, WIDTH, LAYERS, HEADS, KV_HEADS, HEAD, HIDDEN = (
  1024, 256, 4, 4, 2, 64, 1344,
)  # fmt: skip
DREAMS, TEXTS, LENGTH, STEPS, RANK, LEARNING_RATE = 16, 4, 32, 5, 8, 5e-3
PROBES, PROBE_LENGTH, ANSWER = 16, 16, 2
MATRICES = [
  'q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj',
]  # fmt: skip


def main():
  import peft
  import torch
  import transformers

  torch.set_num_threads(1)
  torch.manual_seed(0)
  model = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
      vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=HIDDEN,
      num_hidden_layers=LAYERS, num_attention_heads=HEADS,
      num_key_value_heads=KV_HEADS, head_dim=HEAD, tie_word_embeddings=True,
      max_position_embeddings=LENGTH,
    )
  )  # fmt: skip
  texts = torch.randint(8, VOCAB, (DREAMS, TEXTS, LENGTH))
  probes = torch.randint(8, VOCAB, (PROBES, PROBE_LENGTH))
  answers = probes.clone()
  answers[:, :-ANSWER] = -100
  settings = peft.LoraConfig(
    r=RANK, lora_alpha=2 * RANK, target_modules=MATRICES
  )

  def trial(model, rows):
    adapted = peft.get_peft_model(model, settings)
    adapted.train()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    tx = torch.optim.Adam(trained, lr=LEARNING_RATE)
    for _ in range(STEPS):
      tx.zero_grad()
      adapted(input_ids=rows, labels=rows).loss.backward()
      tx.step()
    adapted.eval()
    with torch.no_grad():
      adapted(input_ids=probes, labels=answers).loss.item()
    return adapted.unload()

  seconds = []
  for rows in (texts[0], *texts):
    start = time.process_time()
    model = trial(model, rows)
    seconds.append(time.process_time() - start)
  print(json.dumps({
    'parameters': sum(p.numel() for p in model.parameters()),
    'cpu_seconds_per_trial': statistics.mean(seconds[1:]),
    'torch': torch.__version__, 'peft': peft.__version__,
    'transformers': transformers.__version__,
  }))  # fmt: skip


if __name__ == '__main__':
  main()
