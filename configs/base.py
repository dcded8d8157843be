"""Default values and units of every config field.

Other configs start from this one and change some fields. The defaults are those
of the study in `facts.py`, with one seed.

    sleep-jax run --config=base --workdir=runs/base

Any field can be set on the command line: --config.wake.steps=60.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  c = ml_collections.ConfigDict()
  c.name = 'base'  # Name of the study in reports.
  c.seeds = (0,)  # Each seed runs every strategy from its own initial model.
  c.strategies = ('sleep', 'hope', 'sft', 'er', 'joint')

  c.data = dict(
    dataset='facts',  # A module of sleep_jax/datasets/, such as 'jsonl'.
    path='',  # File or folder with the data; set on the command line.
    extra_days='',  # File or folder of more days; '-': standard input.
    growing=False,  # Whether rows appended to a learned file are a new day.
    order=0,  # Order of the experiences; 0: as given, others: a permutation.
    settings=dict(),  # Arguments of `make` in sleep_jax/datasets/DATASET.py.
    context=12,  # Tokens per row, BOS and EOS included.
    max_prompt=10,  # Tokens of a stored prompt or a probe, BOS included.
    batch_size=64,  # Rows per pretraining step.
    day_batch_size=0,  # Rows per wake step; 0 uses batch_size.
    pack=False,  # Whether several short texts share one row.
    loss_on='all',  # Tokens with a loss: 'all' or 'response'.
    prefix=8,  # Tokens of a plain text that may be stored as a prompt.
    overlap=-1,  # Tokens shared by windows of a long text; -1 refuses them.
    too_long='error',  # Rows that do not fit: 'error', or 'skip' them.
  )
  c.tokenizer = dict(kind='bpe', vocab_size=1024)  # Tokens.

  # Fields not listed here have the defaults of sleep_jax/model/config.py.
  c.model = dict(
    width=96,  # Features of the residual stream.
    num_layers=3,  # Blocks.
    num_heads=4,  # Query heads per block.
    num_kv_heads=2,  # Key and value heads per block.
    head_size=24,  # Features per head.
    arrangement='sequential',  # Or 'independent' or 'depth'.
    layer_levels=(),  # For 'depth': the level of each block, lowest first.
    router='sigmoid',  # Or 'softmax' or 'always'.
    top_k=0,  # Active experts per token; 0 uses all.
    gate_bias=0.0,  # Initial logit of the gate of an expert.
    gated_experts=False,  # Whether experts have an up projection of their own.
    qk_norm=True,  # Whether queries and keys are normalized.
    tied=True,  # Whether the head shares the embedding matrix.
    unroll=3,  # Layers per loop iteration; all is fastest on a CPU.
  )
  # Fastest level first; the last level is the MLP of the block. `hidden` and
  # `rank` count hidden units (of the level, of one expert), periods count wake
  # steps, and `slots` counts experts. A level may have `context_sleep_period`
  # (of the context window, as `sleep_period`); `night`, a dict with fields of
  # `consolidate` and `expert_optimizer` that its own nights change; and
  # `beside`, True for a bank that was the slowest before its chain grew.
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
    restore='',  # Work directory of a run whose initial model is used.
    # Or a Hugging Face directory, a GGUF file or a fetched name (smollm2).
    base_model='',
    dtype='float32',  # Of the core parameters; or 'bfloat16'.
    steps=1500,  # Optimizer steps.
    # AdamW: `warmup` and `decay_steps` count updates, the rate is the peak. Any
    # optimizer may also have `final`, `clip` and `b1`, see optim/optimizer.py.
    optimizer=dict(
      learning_rate=3e-3,
      warmup=100,
      decay_steps=1500,
      b2=0.98,
      weight_decay=0.01,
    ),
  )
  penalty = dict(
    weight=0.0,  # Of the divergence (nats per token) in the loss.
    teacher='anchor',  # Or 'first': the initial model.
    prompts='old',  # Or 'own_texts', of 'first'.
    sequences=64,  # Rehearsals read per wake step.
    draws=1024,  # Rehearsals written per waking.
    bos_share=0.15,  # Share of prompts that are BOS alone.
    cut_share=0.5,  # Share of prompts cut at a random position.
    template_share=0.5,  # Share of prompts that use a template.
  )
  c.wake = dict(
    steps=120,  # Wake steps per experience,
    epochs=0.0,  # or, above 0, passes over its rows, which replace `steps`.
    micro_batches=1,  # Parts per step; more parts need less memory.
    block_tokens=0,  # Tokens whose logits are computed at a time; 0: all.
    optimizers=(dict(learning_rate=1e-3),),  # One per level but the slowest.
    final=1.0,  # Rate at the end of a day, a share of that at its beginning.
    # Blocks whose levels are updated, as shares of all from the input on.
    depth=(0.0, 1.0),
    # KL penalty to the anchor on rehearsals that the anchor wrote when the
    # level last woke. Weight 0 turns it off.
    kl_penalty=penalty,
    second_kl_penalty=dict(penalty),  # With another teacher, or other prompts.
  )
  # For strategies that train all weights: the rate of 'joint'.
  c.fine_tune = dict(learning_rate=1e-3)
  # For strategy 'lora': the adapter of the initial model (2106.09685).
  c.lora = dict(
    rank=16,  # Columns of the low-rank factors.
    targets=('query', 'key', 'value', 'out', 'gate', 'up', 'down'),
    optimizer=dict(learning_rate=1e-3),
  )
  # For strategy 'ewc' (1612.00796, 1805.06370).
  c.ewc = dict(
    weight=0.1,  # Of the penalty; the mean of the normalised Fisher is 1.
    decay=0.95,  # Of the Fisher of earlier experiences, and of the penalty.
    batches=32,  # Most batches of an experience that it is measured on.
  )
  # For strategy 'lwf' (1606.09282).
  c.lwf = dict(
    weight=1.0,  # Of KL(old model || model) in the loss.
    temperature=2.0,  # Divides the logits of both models.
  )
  # For strategy 'anchor_kl' (2605.26097).
  c.anchor_kl = dict(
    weight=1.0,  # Of KL(initial model || model) in the loss.
    texts=1024,  # Texts that the initial model writes, once.
    sequences=64,  # Texts read per wake step.
  )
  # For strategy 'projected' (2410.02355).
  c.projected = dict(
    energy=0.99,  # Share of squared old inputs in the directions kept.
    batches=64,  # Most batches of an experience that are measured.
  )
  # For strategies 'merge' (2510.13537) and 'olora' (2310.14152).
  c.merge = c.lora.to_dict()
  c.olora = dict(
    c.lora.to_dict(),
    weight=0.5,  # Of the overlap with factors of earlier experiences.
    tasks=32,  # Experiences that there is room for.
  )
  # For strategy 'protoada' (2606.02576, reconstructed from its abstract).
  c.protoada = dict(
    c.lora.to_dict(),
    threshold=0.95,  # Cosine above which an experience joins a group.
    batches=32,  # Most batches of an experience that its prototype is of.
    tasks=32,  # Experiences that there is room for.
  )
  # For strategy 'cartridge' (2506.06266).
  c.cartridge = dict(
    tokens=32,  # Places of the prefix of an experience.
    tasks=32,  # Experiences that there is room for.
    sequences=64,  # Answers of the teacher read per wake step.
    max_new=0,  # Most tokens of an answer; 0: as many as fit into a row.
    optimizer=dict(learning_rate=1e-2),
  )
  # For strategy 'sparse' (2510.15103).
  c.sparse = dict(
    units=0.1,  # Share of the hidden units that an experience updates.
    used=0.05,  # Share of the units that a token uses.
    batches=64,  # Most batches of an experience that rank the units.
  )
  # For strategy 'refresh' (2606.02398).
  c.refresh = dict(steps=10)  # Steps on stored rows after each day.
  # For strategy 'rollback' (2606.02398).
  c.rollback = dict(
    share=0.01,  # Largest share of trained coordinates that are set back.
    batches=32,  # Most batches of an experience that the Fisher is measured on.
  )
  # For strategies 'sdft' (2601.19897) and 'opsd' (2601.18734).
  c.sdft = dict(
    decay=0.99,  # Of the teacher's moving average, per wake step.
    beta=0.0,  # Divergence: 0 is KL(teacher || student), 1 the reverse.
    sequences=64,  # Answers written per wake step.
    max_new=0,  # Most tokens of an answer; 0: as many as fit into a row.
  )
  c.opsd = dict(
    beta=0.5,  # Divergence: 0 is KL(teacher || student), 0.5 is symmetric.
    sequences=64,  # Answers written per wake step.
    max_new=0,  # Most tokens of an answer; 0: as many as fit into a row.
  )
  # For strategy 'grpo' (2402.03300).
  c.grpo = dict(
    prompts=8,  # Prompts answered per wake step.
    group=8,  # Answers to each of them.
    beta=0.0,  # Weight of the KL estimate to the initial model; 0: none.
    max_new=0,  # Most tokens of an answer; 0: as many as fit into a row.
  )
  # For strategies 'icl' and 'rag', which put rows before each question.
  c.icl = dict(width=512)  # Most tokens of a prompt.
  c.rag = dict(
    width=512,  # Most tokens of a prompt.
    rows=4,  # Most rows before a question.
  )
  # For strategy 'klda' (2412.15571), which classifies frozen states.
  c.klda = dict(
    features=1024,  # Random features.
    width=1.0,  # Of the kernel, in median distances of two prompts.
    ridge=0.01,  # Added to the covariance, a share of its mean diagonal.
  )
  # For strategy 'inca' (2412.15563), which narrows the labels that are ranked.
  c.inca = dict(
    top_k=3,  # Labels that the model ranks.
    ridge=0.01,  # Added to the covariance, a share of its mean diagonal.
  )
  # For tuned strategies: candidate rates, and experiences used to compare them.
  c.tune = dict(learning_rates=(3e-4, 1e-3, 3e-3), experiences=4)

  # Capacity of each age group, in prompts.
  c.replay = dict(
    # Or 'rows': with answers, for 'sleep_rows'; or 'none': rehearsals start
    # from BOS alone.
    store='prompts',
    pretrain=1024,  # Prompts of the pretraining text.
    past=2048,  # Prompts of all days so far.
    day=1024,  # Prompts of the current day of each sleeping level.
    own_texts=0,  # Texts that a base model writes before its first day.
    about_people=0,  # How many of them are about people whom it invents.
  )
  c.consolidate = dict(
    teachers=(
      # `sequences` counts rehearsals read per update, `draws` rehearsals
      # written per round; shares are shares of prompts, as above. A teacher may
      # also have `pretrain_share`, `splice_share`, `skip_repeated`,
      # `max_length` and `max_new`, see sleep/settings.py.
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
    num_updates=320,  # Updates of the fresh expert per night; or at most.
    micro_batches=1,  # Parts per update; more parts need less memory.
    updates_per_round=10,  # Updates between two samplings of rehearsals.
    priority=0.5,  # Exponent of the last divergence of a row; 0: uniform.
    sender_after_sleep='cleared',  # Or 'updated'.
    into='expert',  # Or 'base': the MLP of the receiver, without expansion.
    # Units of a fresh expert; or 'sender': copied from it, and in a merge from
    # both experts.
    start='random',
    full='error',  # A full bank: or 'merge' (two experts), 'absorb' (all).
    on_policy=0.0,  # Share of rows written by the student.
    on_policy_after=0.25,  # Share of the night before it starts to write.
    beta=0.0,  # Divergence: 0 is KL(teacher || student).
    temperature=1.0,  # Of sampling rehearsals.
    max_new=10,  # Generated tokens of a rehearsal.
    max_length=12,  # Tokens of a rehearsal.
    prompt_width=10,  # Tokens of its prompt.
    block_tokens=1024,  # Tokens whose logits are computed at a time.
    block_vocab=8192,  # Vocabulary entries computed at a time.
    # Nights that end when the divergence on rehearsals that were never trained
    # on stops falling, or is below the tolerance (nats per token).
    adaptive=dict(
      on=False,
      min_updates=80,
      tolerance=0.0,
      patience=4,  # Rounds without an improvement of 1%.
      decay=0.25,  # Last share of the night, in which the rate falls.
    ),
    # Rewards the student for completing a teacher's text as the teacher did.
    imitation=dict(
      alpha=1.0,  # Weight of distillation; 1 turns imitation off.
      gamma=0.5,  # Weight of the judge in the reward.
      threshold=0.5,  # Largest close edit distance, as share of the text.
      cuts=1,  # Sequences cut per teacher and update.
      completions=4,  # Completions sampled per cut sequence.
      judge='match',  # Or 'teacher', 'encoder:FOLDER', 'module:function'.
      # A night is discarded if the teachers' log-likelihood of the completions
      # falls by this many nats per token, or if completions repeat this share
      # of neighbouring token pairs more often than the teachers' texts.
      stop_likelihood=1.0,
      stop_repetition=0.5,
    ),
  )
  # For the fresh expert. The cosine decay ends with the night, unless
  # decay_steps (updates) is set.
  c.expert_optimizer = dict(learning_rate=1.6e-2, warmup=20, b2=0.98)
  # A LoRA adapter (2106.09685).
  adapter = dict(
    rank=8,  # Columns of the low-rank factors.
    alpha=16.0,  # The update is scaled by alpha / rank.
    targets=('query', 'key', 'value', 'out', 'gate', 'up', 'down'),
    steps=5,  # Optimizer steps.
    batch=4,  # Texts per step.
    learning_rate=5e-3,  # Of Adam, constant.
  )
  # Dreaming: the model writes texts about its day, trains an adapter on each to
  # measure the gain, and seeds the helpful ones into the newest expert.
  c.dream = dict(
    on=False,  # Whether nights dream.
    order='after',  # Or 'before' consolidation.
    rounds=2,  # Rounds of writing, trials and training of the writer.
    start='current',  # Or 'base': the writer at the start of a round.
    candidates=64,  # Dreams per round.
    texts=4,  # Texts per dream.
    temperature=1.0,  # Of sampling texts.
    whole=True,  # Whether texts without an end are ignored.
    novelty=False,  # Whether one random expert is fully on while writing.
    importance='gradient',  # Or 'norm' or 'random'.
    top=12,  # Dreams tried per round: the most important ones.
    random=4,  # Dreams tried per round: drawn from the others.
    repeats=1,  # Trials per dream.
    score='likelihood',  # Of right answers; or 'greedy': share answered right.
    margin=0.0,  # A dream is rewarded if its gain exceeds this.
    trial=adapter,  # Adapter of a trial.
    writer=adapter | dict(steps=20, batch=32),  # Adapter of the writer.
    old=64,  # Rows of old rehearsals per seeding update.
    template_share=0.5,  # Share of their prompts that use a template.
    sequences=32,  # Rows of rewarded dreams per update.
    reading=0,  # Rows read with their document per update.
    num_updates=80,  # Seeding updates per night.
    updates_per_round=10,  # Updates between two samplings.
    learning_rate=4e-3,  # Peak rate of the newest expert.
  )
  # For strategy 'seal': the adapter that learns the rewarded texts and is added
  # to all weights.
  c.self_edit = adapter | dict(steps=60, batch=8, learning_rate=1e-3)
  # Discards a night that costs more than the tolerance: of a model pretrained
  # here, a share of its unscored pretraining probes; of a base model, nats a
  # token on texts that it wrote itself before the first day.
  c.guard = dict(on=False, tolerance=0.02)
  # A base model writes questions about the documents of its day. The teacher
  # 'context' answers them in the night. Without it, a chat or `load` makes them
  # and the model's answers rows of the day, which are learned awake.
  c.questions = dict(
    on=False,  # Whether it does. A model that was pretrained here never does.
    per_sentence=6,  # Most stored questions about a sentence.
    attempts=2,  # Times it writes about a sentence, each after other examples.
    temperature=0.7,  # For later attempts; the first attempt is greedy.
    forms=('chat', 'plain'),  # How questions will be asked.
    about_subjects=0,  # Requests as 'Tell me about Ada.' per sentence; 0 to 4.
  )
  # What the initial model could do is measured every morning, and on the full
  # sets at the start and at the end; an empty path or 0 leaves a part out.
  c.ability = dict(
    text='',  # File of ordinary text: rows {"text"}, or a .txt file.
    text_tokens=4000,  # Predicted tokens of it each morning.
    full_text_tokens=20_000,  # At the start and at the end.
    reading='',  # File of rows {"context", "question", "answers"}, as SQuAD.
    reading_questions=40,  # Each morning.
    full_reading_questions=300,  # At the start and at the end.
    prompts=0,  # Built-in everyday requests, at most 50.
    max_new=32,  # Most tokens of an answer to a request.
    form='auto',  # 'chat' (its template), 'plain', or what the model has.
  )

  # Probes per call; batches of held-out text.
  c.evaluate = dict(chunk=512, held_out_batches=3)
  c.evaluate_samples = 4  # Rehearsals per teacher and night in the report.
  # `keep` counts cycles; the budget is in bytes (1 GiB here).
  c.checkpoint = dict(keep=3, disk_budget_bytes=2**30, every_seconds=120.0)
  # For `sleep-jax compare`: orders of the experiences (data.order), and most
  # memory that a unit needs, if it is known; 0: the first unit runs alone.
  c.compare = dict(orders=(0,), memory_gib=0.0)
  c.writers = ()  # Optional metric writers: 'tensorboard', 'wandb'.
  # Devices per mesh axis; -1 uses all remaining devices.
  c.mesh = dict(data=-1, fsdp=1, sequence=1, tensor=1)
  # Folder that keeps compiled programs; '' is in the user's cache, 'off' none.
  c.compile_cache = ''
  return c
