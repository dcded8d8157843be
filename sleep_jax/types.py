"""Shared array types: weights, batches, rollouts, probes and shape checks.

The name of an array ends in its axes, for example `tokens_BT`. Axis letters:
A answer, B batch, C candidate or capacity, D width, E expert slot, F hidden
size, G generated token or key head, H query head, K head size, L layer,
M pool entry, N level, P prompt, R rank, S template, set or cache slot, T time,
V vocabulary.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

Array = jax.Array
Params = dict[str, Array]  # Flat: '/'-joined path -> array.
_ADAPTER = 'adapter/'  # Paths of the arrays of an adapter begin with this.


class Weights(struct.PyTreeNode):
  """Weights of a model. Teachers, students and the running model share it.

  Attributes:
    params: flat dict, path -> array. Arrays of blocks are stacked over layers.
    active_NE: f32, 1 where an expert slot is active, else 0.
    fresh: the expert that is being trained, {level: {name: array [L, ...]}}.
      It is not part of the bank, nor of its top-k selection, until it is
      committed.
    adapter: low-rank adapter of matrices of the blocks, see `model.lora`; or
      keys and values in front of all tokens, see `model.prefix`.
    opened_BNE: 1 where the gate of an active expert is forced to 1 for a row,
      independently of the router.
    blocks: arrays of each layer as a tuple, in place of the stacked arrays,
      see `model.blocks.unstack`.
  """

  params: Params
  active_NE: Array
  fresh: dict[str, Params] | None = None
  adapter: dict[str, Any] | None = None
  opened_BNE: Array | None = None
  blocks: tuple[Any, ...] | None = None

  @property
  def trainable(self) -> Params:
    """`params`, and the arrays of the adapter as 'adapter/PATH/NAME'."""
    return {
      **self.params,
      **{
        f'{_ADAPTER}{path}/{name}': leaf
        for path, low in (self.adapter or {}).items()
        for name, leaf in low.items()
      },
    }

  def with_params(self, params: Params) -> 'Weights':
    """Returns weights with some arrays replaced. The others are shared.

    Args:
      params: by path, as in `trainable`.
    """
    own = {p: x for p, x in params.items() if not p.startswith(_ADAPTER)}
    if len(own) == len(params):
      return self.replace(params={**self.params, **params})
    adapter = {path: dict(low) for path, low in self.adapter.items()}
    for path in params.keys() - own.keys():
      matrix, _, name = path.removeprefix(_ADAPTER).rpartition('/')
      adapter[matrix][name] = params[path]
    return self.replace(params={**self.params, **own}, adapter=adapter)


class Texts(struct.PyTreeNode):
  """Left-aligned documents, with BOS and without EOS; or stored answers.

  Attributes:
    tokens_BT: int32.
    length_B: int32, of a document at least 1.
    replaces_B: int32, number of first tokens of a prompt that a teacher reads
      the document in place of; None: 1, the BOS of the prompt.
  """

  tokens_BT: Array
  length_B: Array
  replaces_B: Array | None = None


class Prompts(struct.PyTreeNode):
  """Prompts: prefixes of sequences that contain no part of an answer.

  Attributes:
    tokens_BP: int32, BOS first.
    length_B: int32, number of valid tokens. 0 marks an absent prompt.
    subject_B2: int32, [start, stop) of the tokens that may fill the slot of a
      template. start == stop means that there is no subject.
    context: documents that precede the prompts. Only a teacher reads them.
    answers: what follows each prompt, length 0 if unknown; None: not stored.
  """

  tokens_BP: Array
  length_B: Array
  subject_B2: Array
  context: Texts | None = None
  answers: Texts | None = None


class Batch(struct.PyTreeNode):
  """Training sequences, padded or packed.

  Attributes:
    tokens_BT: int32.
    segments_BT: int32. A positive value is the number of the sequence within
      its row, 0 is a prefix that all segments of the row attend to, -1 is
      padding.
    positions_BT: int32, position of a token within its own sequence.
    loss_BT: f32, 1 where this token is a target (predicted from the token
      before it), else 0. Never 1 at the first token of a sequence.
    prompts: prompts of these rows that may be stored for rehearsal.
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
  """Sampled sequences: a prompt followed by generated tokens.

  Attributes:
    tokens_BT: int32, left-aligned. Tokens from `length_B` on are arbitrary.
    prompt_length_B: int32, index of the first generated token.
    length_B: int32, end of the sequence, including the first EOS.
    context: as in `Prompts`.
    states_BGD: final hidden states of its teacher at the position before each
      generated token, or None if not computed yet.
    own_text_B: int32, place among the own texts of the initial model, or None.
    is_stored_B: bool, whether a stored answer replaces the teacher's, or None.
  """

  tokens_BT: Array
  prompt_length_B: Array
  length_B: Array
  context: Texts | None = None
  states_BGD: Array | None = None
  own_text_B: Array | None = None
  is_stored_B: Array | None = None


class Probes(struct.PyTreeNode):
  """Fixed questions with one correct answer each.

  Attributes:
    prompts: [B, P], BOS and the question, without any other context.
    answer_BA: int32, the answer followed by EOS.
    answer_length_B: int32, including EOS.
    candidates_SCA: int32, sets of candidate answers, each with EOS.
    candidate_length_SC: int32, including EOS. 0 marks an absent candidate.
    candidate_since_SC: int32, first experience (1-based, 0 = pretraining) that
      taught the candidate. Only candidates taught so far are ranked.
    set_B: int32, index of the candidate set of each probe.
    gold_B: int32, index of the correct candidate in its set.
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
  """Valid outputs of a dream that chooses how to learn.

  Attributes:
    text_CG: int32, tokens of each choice with EOS, padded on the right.
    length_C: int32, number of valid tokens, including EOS.
    lessons: [R, T], all sequences to learn from, without documents.
    weight_CR: f32, 1 where a choice trains on a lesson, else 0.
    rate_C: f32, learning rate of each choice, as a multiple of the trial's.
    share_C: f32, share of the trial's steps that each choice takes.
  """

  text_CG: Array
  length_C: Array
  lessons: Rollout
  weight_CR: Array
  rate_C: Array
  share_C: Array


class Task(struct.PyTreeNode):
  """Task of a night of dreams: documents and questions about them.

  Attributes:
    prompts: [N, P], one per document (`context`), with its subject.
    practice: questions about the documents that no other probe asks.
    choices: valid outputs of a dream; None if it is a text to learn from.
  """

  prompts: Prompts
  practice: Probes
  choices: Choices | None = None


class Tokenizer(Protocol):
  """Converts text to tokens and back, see `data.tokenizer`.

  Attributes:
    vocab_size: number of tokens, special ones included.
    bos, eos: tokens that begin and end a text; no text encodes to them.
    fingerprint: equal for equal tokenizers only.
  """

  vocab_size: int
  bos: int
  eos: int
  fingerprint: str

  def encode(self, text: str) -> list[int]: ...

  def encode_continuation(self, text: str) -> list[int]: ...

  def encode_prompt(self, text: str) -> list[int]: ...

  def encode_offsets(
    self, text: str
  ) -> tuple[list[int], list[tuple[int, int]]]: ...

  def decode(self, ids: Iterable[int]) -> str: ...

  def save(self, folder: str) -> None: ...


class TurnWriter(Protocol):
  """Writes conversations as a model reads them, see `data.chat_rows`.

  Attributes:
    fingerprint: equal for equal chat templates only.
  """

  fingerprint: str

  def encode(self, row: Any, *, bos: int) -> Any: ...


# Returns the writer of a model, or None if it has no chat template. Called only
# for conversations: other rows do not need a template that works.
LoadWriter = Callable[[], TurnWriter | None]


class Model(Protocol):
  """What the phases need of a network, see `model.transformer.Transformer`.

  Phases take this type, so that they do not depend on how a network is built.
  """

  config: Any
  place: Callable
  with_place: Callable
  with_xla_attention: Callable
  init: Callable
  shapes: Callable
  init_expert: Callable
  bank: Callable
  forward: Callable
  keys_and_values: Callable
  states: Callable
  states_at: Callable
  map_expert_outputs: Callable
  logits: Callable
  head: Callable
  head_factor: Callable
  prefill: Callable
  decode: Callable
  embed: Callable


# (weights, tokens_BT, segments_BT, positions_BT) -> logits_BTV
Forward = Callable[[Weights, Array, Array, Array], Array]


def model_inputs(
  tokens_BT: Array, length_B: Array
) -> tuple[Array, Array, Array]:
  """Returns tokens, segments and positions of left-aligned sequences.

  Args:
    tokens_BT: one sequence per row.
    length_B: number of valid tokens of each row.
  """
  index = jnp.arange(tokens_BT.shape[1], dtype=jnp.int32)[None]
  positions_BT = jnp.broadcast_to(index, tokens_BT.shape)
  segments_BT = jnp.where(index < length_B[:, None], 1, -1)
  return tokens_BT, segments_BT, positions_BT


def check_shapes(**arrays: Any) -> None:
  """Checks that the shapes of arrays match the axes in their names.

  Args:
    **arrays: name that ends in its axes -> array. A digit is a fixed size.

  Raises:
    ValueError: a rank does not match a name, or two sizes of one axis differ.
      The message names the arrays.
  """
  sizes: dict[str, tuple[int, str]] = {}
  for name, array in arrays.items():
    match = re.search(r'_([A-Z0-9]+)$', name)
    axes = match.group(1) if match else ''
    if array.ndim != len(axes):
      raise ValueError(
        f'{name} has shape {array.shape}: expected {len(axes)} axes, as in '
        'its name.'
      )
    for axis, size in zip(axes, array.shape, strict=True):
      if axis.isdigit():
        if size != int(axis):
          raise ValueError(
            f'{name} has shape {array.shape}: expected size {axis} in place of '
            f'{size}.'
          )
      elif axis in sizes and sizes[axis][0] != size:
        raise ValueError(
          f'Axis {axis} is {size} in {name} {array.shape} but '
          f'{sizes[axis][0]} in {sizes[axis][1]}: expected equal sizes.'
        )
      else:
        sizes[axis] = (size, name)
