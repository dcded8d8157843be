"""Teaches a pretrained model, day by day, what your rows say.

Levels are `independent` and gates `always`, so `convert out` writes the model
of every morning exactly, as an ordinary Hugging Face directory or GGUF file. A
night starts from a copy of what the fastest level learned, which takes a few
minutes on one core for a model of 135 million parameters:

    sleep-jax convert fetch smollm2
    sleep-jax run --config=pretrained --config.pretrain.base_model=smollm2 \
      --config.data.path=DAYS --workdir=runs/pretrained

Settings were chosen on facts of other people, see
docs/results/real/README.md.
"""

from configs import jsonl


def get_config():
  c = jsonl.get_config()
  c.name = 'pretrained'
  c.strategies = ('sleep',)
  c.pretrain.steps = 0
  # Three rows of 128 tokens hold about 18 short questions and answers.
  c.data.update(context=128, max_prompt=48, batch_size=3, pack=True)
  c.data.loss_on = 'response'
  c.data.overlap = 16  # Tokens shared by the windows of a longer document.
  # `Learner.wake` and chats: about documents, the model writes questions and
  # answers, as further rows. `sleep-jax run` learns the rows as they are.
  c.questions.update(
    on=True, forms=('chat', 'plain'), per_sentence=3, about_subjects=4
  )
  c.model.update(arrangement='independent', router='always')
  # `looped` and `remat` halve the memory, and compile in seconds.
  c.model.update(gated_experts=True, unroll=1, looped=True, remat='dots')
  # Of 16-bit factors on a CPU with a matrix unit (AMX), where they take 0.7 of
  # the time; on others they take 1.3 times as long.
  c.model.products = 'auto'
  fast, own = c.levels
  c.levels = (fast | dict(hidden=64), own | dict(rank=64, slots=16))
  # Facts are learned best in the first half of the blocks, at a high rate.
  c.wake.update(epochs=10.0, depth=(0.07, 0.53), final=0.1, block_tokens=64)
  c.wake.optimizers = (dict(learning_rate=3e-2, warmup=2, b2=0.98),)
  # What the model could do is kept on texts that it writes before its first
  # day, which takes three to seven minutes, once.
  c.replay.update(pretrain=0, day=256, own_texts=256)
  first = dict(teacher='first', prompts='own_texts', draws=256)
  first |= dict(max_length=128, max_new=127)
  c.wake.kl_penalty.update(weight=8.0, sequences=3, **first)
  # What was learned on earlier days is kept on prompts that today leaves alone.
  c.wake.second_kl_penalty.update(
    weight=1.0, sequences=4, draws=96, max_length=48, max_new=16,
    bos_share=0.0, cut_share=0.0, template_share=0.0, skip_repeated=True,
  )  # fmt: skip
  c.wake.micro_batches = 3  # Each with a row of the day and an own text.
  short = dict(sequences=8, draws=64, max_length=64, max_new=32)
  c.consolidate.teachers = (
    dict(teacher='anchor', prompts='old', skip_repeated=True) | short,
    dict(teacher='next', prompts='day') | short,
    dict(sequences=8) | first,
  )
  c.consolidate.update(start='sender', full='merge')
  c.consolidate.update(num_updates=24, updates_per_round=24)
  c.consolidate.micro_batches = 4
  c.consolidate.update(max_length=128, prompt_width=48, max_new=32)
  c.consolidate.update(block_tokens=128, block_vocab=65536)
  c.expert_optimizer = dict(learning_rate=4e-3, warmup=2, b2=0.98)
  c.evaluate.held_out_batches = 0
  return c
