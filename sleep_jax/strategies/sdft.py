"""Self-distillation fine-tuning (SDFT), a baseline.

The teacher reads the demonstration, which is the text of a row, and has the
moving average of the model's weights. The divergence is KL(teacher || student)
by default.

References: 2601.19897. It derives the method with KL(student || teacher). The
notes to the code of its authors say that all of their results were obtained
with KL(teacher || student), which that code has.
"""

import dataclasses

from sleep_jax.strategies import method, self_distillation, strategy

NAME = 'sdft'


@dataclasses.dataclass(frozen=True)
class Settings(self_distillation.Settings):
  """Settings of the loss and of the teacher.

  Attributes:
    decay: of the teacher's moving average, per wake step.
  """

  decay: float


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return self_distillation.fine_tuning(NAME, num_levels, _build)


def _build(parts: method.Parts) -> method.Method:
  """Returns the loss with the moving average as the teacher."""
  settings = Settings(**parts.config[NAME])
  return self_distillation.make_method(
    parts, NAME, settings, decay=settings.decay
  )
