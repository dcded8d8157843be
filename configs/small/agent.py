"""Are sub-procedures of earlier tasks reused by later ones (AgentCL)?

Days of small programs whose answers are checked by execution. In the
compositional stream later programs are made of sub-procedures that earlier days
taught. The naive stream has the same programs, but every day has other names,
so that nothing is reused. Both start from the same initial models.

    sleep-jax run --config=small/agent --workdir=runs/agent
    sleep-jax run --config=small/agent:naive --workdir=runs/agent_naive
    python -m benchmarks.agent_gains --compositional=runs/agent \
      --naive=runs/agent_naive

Results: docs/results/agent/.
"""

from configs import base


def get_config(stream: str = 'compositional'):
  if stream not in ('compositional', 'naive'):
    raise ValueError(
      f'configs/small/agent.py:{stream}: expected a stream, compositional '
      'or naive.'
    )
  c = base.get_config()
  c.name = f'agent_{stream}'
  c.seeds = (0, 1, 2)
  c.strategies = ('sleep', 'sft')
  c.data.dataset = 'agent'
  c.data.settings = dict(reuse=stream == 'compositional', num_days=6)
  c.data.context = 19
  c.data.max_prompt = 11
  c.data.loss_on = 'response'
  c.model.update(width=64, num_layers=3, head_size=16, unroll=3)
  c.levels = (
    c.levels[0] | dict(hidden=192),
    c.levels[1] | dict(hidden=192, slots=6),
  )
  c.tokenizer.vocab_size = 512
  c.pretrain.steps = 1200
  c.pretrain.optimizer.decay_steps = 1200
  c.wake.steps = 60
  c.tune = dict(learning_rates=(1e-3,), experiences=1)
  c.replay.update(pretrain=1024, past=1024, day=256)
  # Prompts are whole questions: the model learns to write answers only.
  c.consolidate.teachers = (
    dict(teacher='anchor', prompts='old', sequences=64, draws=256),
    dict(teacher='next', prompts='day', sequences=32, draws=64),
  )
  c.consolidate.num_updates = 120
  c.consolidate.update(max_length=19, prompt_width=11, max_new=8)
  return c
