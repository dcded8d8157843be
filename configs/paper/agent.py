"""Are sub-procedures of earlier tasks reused by later ones (AgentCL)?

As configs/small/agent.py, with a model of the paper's size. The programs are
the same, and no file is needed:

    sleep-jax plan --config=paper/agent:qwen3-8b:naive --topology=v5e:8x8
    sleep-jax run --config=paper/agent:qwen3-8b:naive \
      --config.pretrain.base_model=DIR --workdir=WORKDIR

The argument is a shape of configs/paper/base.py and a stream, `compositional`
or `naive`. All values are ours. A base model has not read the programs of
pretraining, so `prior` means nothing.
"""

from configs.paper import base

STREAMS = ('compositional', 'naive')


def get_config(argument: str = base.SHAPES[0]):
  shape, _, stream = argument.partition(':')
  stream = stream or STREAMS[0]
  if stream not in STREAMS:
    raise ValueError(
      f'configs/paper/agent.py: the stream is {stream!r}: expected one of '
      f'{", ".join(STREAMS)}.'
    )
  c = base.get_config(shape)
  c.name = f'agent, {shape}, {stream}'
  c.data.dataset = 'agent'
  c.data.settings = dict(reuse=stream == STREAMS[0], num_days=6)
  # The longest text has 37 characters; a character is a token or less.
  c.data.update(context=40, max_prompt=24, batch_size=64, loss_on='response')
  # Prompts are whole questions: the model learns to write answers only.
  whole = dict(cut_share=0.0, template_share=0.0)
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (old | whole, day | whole)
  c.consolidate.update(max_length=40, prompt_width=24, max_new=16)
  return c
