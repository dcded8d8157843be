"""Words shared by all: axis letters, batches, weights, rollouts, shape checks.

Axis letters: B batch, T time, P prompt, D width, F hidden, H heads, K head
size, V vocabulary, N level, E expert slot, R rank, L layer, C candidate or
capacity, A answer, M pool, S stem, set or cache slot.
An array's name ends in its axes: `tokens_BT`.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
from flax import struct

Array = jax.Array
Params = dict[str, Array]  # Flat: '/'-joined path -> array.


class Weights(struct.PyTreeNode):
  """A model: teacher, student and running self are all of this one type.

  Attributes:
    params: flat dict, path -> array; blocks are stacked over layers.
    active_NE: f32, 1 where an expert slot takes part, else 0.
    fresh: the expert under training, which stands outside the bank (and so
      outside its selection) until commit: {level: {name: array [L, ...]}}.
    adapter: low-rank, beside matrices of the blocks, see `model.lora`.
    opened_BNE: 1 where a row's gate of an active expert stands wide open,
      whatever its router says.
    blocks: what each layer computes with, one after the other, in place of
      the stacks; see `Transformer.unstacked`.
  """

  params: Params
  active_NE: Array
  fresh: dict[str, Params] | None = None
  adapter: dict[str, Any] | None = None
  opened_BNE: Array | None = None
  blocks: tuple[Any, ...] | None = None

  def with_params(self, params: Params) -> 'Weights':
    """These weights with some arrays replaced; all others are shared."""
    return self.replace(params={**self.params, **params})


class Texts(struct.PyTreeNode):
  """Documents, left-aligned, BOS first and no EOS.

  Attributes:
    tokens_BT: int32.
    length_B: int32, at least 1.
  """

  tokens_BT: Array
  length_B: Array


class Prompts(struct.PyTreeNode):
  """Beginnings of sequences, without any answer in them.

  Attributes:
    tokens_BP: int32, BOS first.
    length_B: int32, number of valid tokens; 0 marks an absent prompt.
    subject_B2: int32, [start, stop) of what may fill the slot of a stem;
      start == stop: nothing.
    context: documents that stand before them, for a teacher alone.
  """

  tokens_BP: Array
  length_B: Array
  subject_B2: Array
  context: Texts | None = None


class Batch(struct.PyTreeNode):
  """Training sequences, padded or packed.

  Attributes:
    tokens_BT: int32.
    segments_BT: int32; > 0 number of the sequence within its row, 0 a prefix
      that all segments of the row may see, -1 padding.
    positions_BT: int32, place of a token within its own sequence.
    loss_BT: f32, 1 where this token is a target (predicted from the one
      before it), else 0. Never 1 at the first token of a sequence.
    prompts: what may be kept for rehearsal of these rows.
  """

  tokens_BT: Array
  segments_BT: Array
  positions_BT: Array
  loss_BT: Array
  prompts: Prompts


class PromptTemplates(struct.PyTreeNode):
  """Self-study templates with one slot: BOS + before + subject + after.

  Attributes:
    before_SP, after_SP: int32 tokens (no BOS), padded on the right.
    before_length_S, after_length_S: int32.
  """

  before_SP: Array
  before_length_S: Array
  after_SP: Array
  after_length_S: Array


class Rollout(struct.PyTreeNode):
  """Sampled sequences: prompt, then what was generated.

  Attributes:
    tokens_BT: int32, left-aligned, anything after `length_B`.
    prompt_length_B: int32, generated tokens start here.
    length_B: int32, end of the sequence, first EOS included.
    context: as in `Prompts`.
    states_BGD: what the head of who teaches it reads before each generated
      token, where it has been read.
  """

  tokens_BT: Array
  prompt_length_B: Array
  length_B: Array
  context: Texts | None = None
  states_BGD: Array | None = None


class Probes(struct.PyTreeNode):
  """Frozen questions with one right answer each.

  Attributes:
    prompts: [B, P]; empty context: BOS and the question, nothing else.
    answer_BA: int32, the answer and EOS.
    answer_length_B: int32, EOS included.
    candidates_SCA: int32, sets of possible answers, each with EOS.
    candidate_length_SC: int32, EOS included; 0 marks an absent candidate.
    candidate_since_SC: int32, first experience (1-based; 0 = birth) that
      taught it: only those met so far compete.
    set_B: int32, which set of candidates belongs to a probe.
    gold_B: int32, index of the right candidate in its set.
  """

  prompts: Prompts
  answer_BA: Array
  answer_length_B: Array
  candidates_SCA: Array
  candidate_length_SC: Array
  candidate_since_SC: Array
  set_B: Array
  gold_B: Array


class Choices(struct.PyTreeNode):
  """What a dream may say where it is a choice of how to learn.

  Attributes:
    text_CG: int32, tokens of each, EOS included, padded on the right.
    length_C: int32, of them.
    lessons: [R, T], what there is to learn from, without documents.
    weight_CR: f32, 1 where a choice learns from a lesson, else 0.
    rate_C: f32, its learning rate, in units of a trial's.
    share_C: f32, of a trial's steps, those that it takes.
  """

  text_CG: Array
  length_C: Array
  lessons: Rollout
  weight_CR: Array
  rate_C: Array
  share_C: Array


class Task(struct.PyTreeNode):
  """What a night dreams about.

  Attributes:
    prompts: [N, P], one a document, with its subject; `context` holds the
      documents themselves.
    practice: questions about them that no other probe asks.
    choices: what a dream may say; None: it is a text to learn from.
  """

  prompts: Prompts
  practice: Probes
  choices: Choices | None = None


# (weights, tokens_BT, segments_BT, positions_BT) -> logits_BTV
Forward = Callable[[Weights, Array, Array, Array], Array]


def check_shapes(**arrays: Any) -> None:
  """Checks that arrays agree on the axes that their names end in.

  Raises:
    ValueError: a rank or two sizes disagree; names both arrays.
  """
  sizes: dict[str, tuple[int, str]] = {}
  for name, array in arrays.items():
    match = re.search(r'_([A-Z0-9]+)$', name)
    axes = match.group(1) if match else ''
    if array.ndim != len(axes):
      raise ValueError(
        f'{name} has shape {array.shape}, but its name says {len(axes)} axes.'
      )
    for axis, size in zip(axes, array.shape, strict=True):
      if axis.isdigit():
        if size != int(axis):
          raise ValueError(f'{name} has shape {array.shape}: {axis} expected.')
      elif axis in sizes and sizes[axis][0] != size:
        raise ValueError(
          f'Axis {axis} is {size} in {name} {array.shape} but '
          f'{sizes[axis][0]} in {sizes[axis][1]}: make them agree.'
        )
      else:
        sizes[axis] = (size, name)
