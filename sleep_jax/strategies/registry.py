"""Ways of learning from one and the same stream."""

from sleep_jax.strategies import er, hope, joint, seal, sft, sleep, strategy

NAMES = ('sleep', 'hope', 'sft', 'er', 'joint', 'seal')


def make(name: str, *, num_levels: int) -> tuple[strategy.Strategy, ...]:
  """The lives that a name of `config.strategies` stands for.

  Raises:
    ValueError: the name is not known.
  """
  if name == 'joint':
    return tuple(joint.make(num_levels, budget) for budget in joint.BUDGETS)
  known = {
    'sleep': sleep, 'hope': hope, 'sft': sft, 'er': er, 'seal': seal
  }  # fmt: skip
  if name not in known:
    raise ValueError(f'Unknown strategy {name!r}: expected one of {NAMES}.')
  return (known[name].make(num_levels),)
