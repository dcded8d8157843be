"""Scores questions of a user, each alone in the context."""

from collections.abc import Iterable, Mapping

from sleep_jax import errors, types
from sleep_jax.data import probe_arrays
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.evaluate import probes as probes_lib

_PER_CALL = 64


def score(
  model: types.Model,
  weights: types.Weights,
  tokenizer: types.Tokenizer,
  rows: Iterable[Mapping[str, str]],
) -> dict[str, float]:
  """Scores questions with known answers.

  Args:
    model, weights, tokenizer: of the model that answers.
    rows: dicts with 'prompt' and 'answer'; an answer usually starts with a
      space.

  Returns:
    'accuracy': share of greedy answers that equal the expected one, end of text
    included; 'log_likelihood': mean log-probability per token of the expected
    answers, in nats; 'num_probes'.

  Raises:
    DataError: a row lacks a field, or there are no rows.
  """
  group = [_probe(number, row) for number, row in enumerate(rows)]
  if not group:
    raise errors.DataError('There are no probes: pass at least one row.')
  width = lambda text: len(tokenizer.encode(text)) + 1
  prompt = max(width(p.prompt) for p in group)
  answer = max(width(p.answer) for p in group)
  dataset = dataset_lib.Dataset(
    name='probes', pretrain=[], held_out=[], experiences=[],
    probes={'probes': group},
  )  # fmt: skip
  arrays = probe_arrays.make_probes(
    group, dataset, tokenizer,
    probe_arrays.make_candidates(dataset, tokenizer, [group]),
    context=prompt + answer, max_prompt=prompt,
  )  # fmt: skip
  found = {'num_probes': float(len(group))}
  for name, function in (
    ('accuracy', probes_lib.greedy(model, eos=tokenizer.eos)),
    ('log_likelihood', probes_lib.forced(model, nats=True)),
  ):
    scorer = probes_lib.Scorer(function, {'probes': arrays}, chunk=_PER_CALL)
    found[name] = scorer(weights)['probes']
  return found


def _probe(number: int, row: Mapping[str, str]) -> dataset_lib.Probe:
  for field in ('prompt', 'answer'):
    if not isinstance(row.get(field), str):
      raise errors.DataError(
        f'rows[{number}] has no text {field!r}: expected a dict with '
        f"'prompt' and 'answer', found {sorted(row)}."
      )
  return dataset_lib.Probe(row['prompt'], row['answer'])
