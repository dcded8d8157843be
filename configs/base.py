"""Every field of a run, with its unit; other configs change what they name."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  c = ml_collections.ConfigDict()
  c.name = 'base'
  c.seeds = (0,)
  c.strategies = ('sleep', 'hope', 'sft', 'er', 'joint')

  c.data = dict(
    dataset='facts',  # 'facts', 'intents' or 'jsonl'.
    path='',  # Where 'intents' and 'jsonl' read from; never set in a config.
    settings=dict(),  # Arguments of the world, see sleep_jax/data/worlds.
    context=12,  # Tokens per row, BOS and EOS included.
    max_prompt=10,  # Tokens of a stored prompt or a probe, BOS included.
    batch_size=64,  # Rows per step, of birth and
    day_batch_size=0,  # of days; 0: as many.
    pack=False,  # Several short rows in one.
    loss_on='all',  # Or 'response'.
    prefix=8,  # Tokens of a plain text that may be stored as a prompt.
    overlap=-1,  # Of windows of a longer text, in tokens; -1: refused.
  )
  c.tokenizer = dict(kind='bpe', vocab_size=1024)

  c.model = dict(
    width=96,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_size=24,
    arrangement='sequential',
    layer_levels=(),  # Of 'depth': the level of each block, lowest first.
    router='sigmoid',
    router_spread=1.0,  # Of 'centroid'.
    top_k=0,
    gate_bias=0.0,
    qk_norm=True,
    tied=True,
    unroll=3,  # Layers per step of the loop; all of them is fastest on a CPU.
  )
  # Fastest first; the last is the block's own MLP.
  c.levels = (
    dict(
      hidden=256, update_period=1, sleep_period='experience', slots=0, rank=0
    ),
    dict(
      hidden=256,
      update_period='infinite',
      sleep_period='infinite',
      slots=10,
      rank=64,
    ),
  )

  c.pretrain = dict(
    restore='',  # Work directory of an earlier run whose newborn is used.
    base_model='',  # Or a Hugging Face model directory instead.
    dtype='float32',  # Of its core, which never moves then, or 'bfloat16'.
    steps=1500,
    optimizer=dict(
      learning_rate=3e-3,
      warmup=100,
      decay_steps=1500,
      b2=0.98,
      weight_decay=0.01,
    ),
  )
  # One optimizer per level but the slowest.
  c.wake = dict(
    steps=120,  # Per experience.
    micro_batches=1,  # In which a step reads its rows, to need less room.
    block_tokens=0,  # Whose logits are held at a time; 0: of all.
    optimizers=(dict(learning_rate=1e-3),),
    # Holds the day to the morning: a divergence from the anchor on rehearsals
    # that it wrote as it woke, beside the loss. Weight 0: no tether.
    kl_penalty=dict(
      weight=0.0,
      sequences=64,  # Rows per wake step,
      draws=1024,  # of so many, written at each waking.
      bos_share=0.15,
      cut_share=0.5,
      template_share=0.5,
    ),
  )
  c.fine_tune = dict(learning_rate=1e-3)  # For strategies that move all.
  # Strategies that are tuned: rates tried, on how much of another stream.
  c.tune = dict(learning_rates=(3e-4, 1e-3, 3e-3), experiences=4)

  c.replay = dict(
    store='prompts',  # Or 'none': rehearse from BOS alone.
    pretrain=1024,  # Prompts kept of birth,
    past=2048,  # of all days so far,
    day=1024,  # and of each sleeper's own day.
  )
  c.consolidate = dict(
    teachers=(
      dict(
        teacher='anchor',
        prompts='old',
        sequences=64,
        draws=384,
        bos_share=0.15,
        cut_share=0.5,
        template_share=0.5,
      ),
      dict(
        teacher='next',
        prompts='day',
        sequences=32,
        draws=96,
        cut_share=0.5,
        template_share=0.5,
      ),
    ),
    num_updates=320,
    micro_batches=1,  # In which an update reads its rows.
    updates_per_round=10,
    # Rows are drawn as this power of how far the student last was from them.
    priority=0.5,
    sender_after_sleep='cleared',
    into='expert',  # Or 'base': the receiver's own MLP, no expansion.
    full='error',  # Or 'merge': a full bank makes two experts one.
    average_decay=0.97,  # Per wake step, of the teacher 'average'.
    on_policy=0.0,
    on_policy_after=0.25,
    beta=0.0,
    temperature=1.0,
    max_new=10,  # Tokens that are written of a rehearsal,
    max_length=12,  # Tokens of a rehearsal,
    prompt_width=10,  # and of its prompt.
    block_tokens=1024,  # Logits held at a time: of so many tokens
    block_vocab=8192,  # and so many words of the vocabulary.
    # Rewards the student's own endings of what a teacher began.
    imitation=dict(
      alpha=1.0,  # Weight of distillation; 1: no imitation.
      gamma=0.5,  # Weight of the judge in the reward.
      threshold=0.5,  # Farthest that counts as close, of the longer text.
      cuts=1,  # Sequences cut per pair and update,
      completions=4,  # and endings that the student writes of each.
      judge='match',  # Or 'teacher', 'encoder:FOLDER', 'module:function'.
      # A night whose endings come apart is discarded: the teachers' likelihood
      # of them has fallen by so many nats per token,
      stop_likelihood=1.0,
      stop_repetition=0.5,  # or such a share more than theirs is repeated.
    ),
  )
  # Its cosine ends with the night, unless decay_steps says otherwise.
  c.expert_optimizer = dict(learning_rate=1.6e-2, warmup=20, b2=0.98)
  # After consolidation the model writes about its day, tries what it wrote, and
  # seeds what helped into the newest expert.
  adapter = dict(
    rank=8,
    alpha=16.0,
    targets=('query', 'key', 'value', 'out', 'gate', 'up', 'down'),
    steps=5,
    batch=4,
    learning_rate=5e-3,
  )
  c.dream = dict(
    on=False,
    order='after',  # Or 'before' consolidation.
    rounds=2,
    start='current',  # Or 'base': where the writer starts a round.
    candidates=64,  # Dreams of a round,
    texts=4,  # and texts of each.
    temperature=1.0,
    whole=True,  # A text that comes to no end is not learned from.
    novelty=False,  # True: one random expert stands wide open meanwhile.
    importance='gradient',  # Or 'norm', 'random'.
    top=12,  # Dreams that are tried: the most important,
    random=4,  # and some of the others.
    repeats=1,  # Trials of each.
    score='likelihood',  # Of right answers; or 'greedy', how many are right.
    margin=0.0,  # A reward takes more gain than this.
    trial=adapter,
    writer=adapter | dict(steps=20, batch=32),
    old=64,  # Rows of what is known already per update,
    template_share=0.5,  # so many of them asked as dreams are;
    sequences=32,  # rows of rewarded dreams,
    reading=0,  # and rows that are read with their document.
    num_updates=80,
    updates_per_round=10,
    learning_rate=4e-3,
  )
  # Strategy 'seal' has no night: what helped goes into all weights, like this.
  c.self_edit = adapter | dict(steps=60, batch=8, learning_rate=1e-3)
  c.guard = dict(on=False, tolerance=0.02)

  c.evaluate = dict(chunk=512, held_out_batches=3)
  c.evaluate_samples = 4  # Rehearsals per teacher and night in the report.
  c.checkpoint = dict(keep=3, disk_budget_bytes=2**30, every_seconds=120.0)
  c.writers = ()  # 'tensorboard', 'wandb'.
  c.mesh = dict(data=-1, fsdp=1, sequence=1, tensor=1)
  c.compile_cache = ''  # A folder that keeps compiled programs, if any.
  return c
