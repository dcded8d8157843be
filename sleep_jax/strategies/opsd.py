"""On-policy self-distillation (OPSD), a baseline.

The teacher reads the reference solution, which is the text of a row, and is the
model as it was at the start of the experience. The divergence is that of Jensen
and Shannon by default.

References: 2601.18734, version 1. The later code of its authors has
KL(teacher || student), and bounds its value at a token.
"""

from sleep_jax.strategies import method, self_distillation, strategy

NAME = 'opsd'
Settings = self_distillation.Settings


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return self_distillation.fine_tuning(NAME, num_levels, _build)


def _build(parts: method.Parts) -> method.Method:
  """Returns the loss with a teacher that does not move."""
  settings = Settings(**parts.config[NAME])
  return self_distillation.make_method(parts, NAME, settings, decay=1.0)
