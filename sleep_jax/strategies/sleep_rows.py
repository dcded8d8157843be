"""Sleep with stored answers: nights rehearse rows as they were read.

As `sleep`, but beside each prompt its answer is stored. Where a night, or the
KL penalty of the wake steps, would learn what a teacher writes after a stored
prompt, it learns the stored answer, with the cross-entropy of its tokens.
A prompt that is cut is followed by its rest and its answer. Prompts that were
spliced or filled into a template, and BOS alone, have no stored answer, and are
answered by the teacher as in `sleep`.

References: experience replay, 1902.10486; 2606.03979 stores no answers. It is
the control that separates errors of the teacher's labels from other losses.
"""

import dataclasses

from sleep_jax.strategies import sleep, strategy

NAME = 'sleep_rows'


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return dataclasses.replace(
    sleep.make(num_levels), name=NAME, stores_answers=True
  )
