"""Which TPU slices fit base models of 0.6 to 70 billion parameters?

Planning uses the shapes of the base model only, not its weights.

    sleep-jax plan --config=scale:llama3-8b --topology=v5e:4x4

A run also needs the weights and data, see configs/jsonl.py:

    sleep-jax run --config=scale:llama3-8b --config.pretrain.base_model=DIR \
      --config.data.path=DAYS --workdir=WORKDIR

Results: docs/results/tpu/.
"""

from configs import jsonl

# Vocabulary size, width, blocks, query heads, key heads, size of a head, hidden
# units, and whether the head shares the embedding.
_SIZES = {
  'qwen3-0.6b': (151_936, 1024, 28, 16, 8, 128, 3072, True),
  'qwen3-8b': (151_936, 4096, 36, 32, 8, 128, 12_288, False),
  'llama3-1b': (128_256, 2048, 16, 32, 8, 64, 8192, True),
  'llama3-3b': (128_256, 3072, 28, 24, 8, 128, 8192, True),
  'llama3-8b': (128_256, 4096, 32, 32, 8, 128, 14_336, False),
  'llama3-70b': (128_256, 8192, 80, 64, 8, 128, 28_672, False),
}
# Devices that the core parameters are sharded over, see the results.
_FSDP = 16


def get_config(size: str = 'llama3-8b'):
  if size not in _SIZES:
    raise ValueError(
      f'The size is {size!r}: expected one of {", ".join(_SIZES)}.'
    )
  vocab_size, width, blocks, heads, key_heads, head, hidden, tied = _SIZES[size]
  qwen = size.startswith('qwen3')
  c = jsonl.get_config()
  c.name = size
  c.strategies = ('sleep',)
  c.tokenizer.vocab_size = vocab_size
  c.model.update(
    width=width, num_layers=blocks, num_heads=heads, num_kv_heads=key_heads,
    head_size=head, qk_norm=qwen, tied=tied, unroll=1,
  )  # fmt: skip
  c.model.rope_theta = 1e6 if qwen else 5e5
  c.model.update(remat='full', looped=True, attention='splash')
  day, own = c.levels
  c.levels = (
    day | dict(hidden=width // 4),
    own | dict(hidden=hidden, slots=10, rank=64),
  )
  c.pretrain.update(dtype='bfloat16', steps=0)
  c.data.update(context=1024, max_prompt=256, batch_size=64)
  c.wake.update(micro_batches=4, block_tokens=2048)
  old, new = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(sequences=32, draws=64), new | dict(sequences=32, draws=64)
  )  # fmt: skip
  c.consolidate.update(
    num_updates=256, updates_per_round=8, max_length=512, prompt_width=256,
    max_new=256, block_tokens=2048, block_vocab=vocab_size,
  )  # fmt: skip
  # The logits of all texts of a step are in memory, so there are few texts.
  c.dream.update(candidates=32, texts=1)
  c.dream.trial.batch = 1
  c.dream.writer.batch = 16
  c.mesh.update(data=-1, fsdp=_FSDP, tensor=1)
  return c
