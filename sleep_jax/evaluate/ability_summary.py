"""Reduces the ability measured in a run to the numbers of `summary.json`."""

from typing import Any

from sleep_jax.evaluate import cycles

KEY = 'ability'  # Of an evaluation.


def summarize(evaluations: list[cycles.Evaluation]) -> dict[str, Any]:
  """Returns what changed since the initial model; empty if it is not measured.

  Numbers are of the latest measurement, on the full sets if it has them.

  Args:
    evaluations: records of one run, oldest first.

  Returns:
    'perplexity_initial', 'perplexity', 'perplexity_change' (relative) and
    'text_tokens'; 'everyday_kl' (nats a token); 'reading_initial' and 'reading'
    (shares of answers that contain a right one), 'reading_change' with the ends
    of its paired 95 % interval ('reading_low', 'reading_high'), the same for
    exact answers ('reading_exact_change'), and 'reading_questions';
    'ability_cpu_seconds', the mean of a morning. A part that was left out is
    None.
  """
  measured = [e for e in evaluations if e.get(KEY)]
  if not measured:
    return {}
  first, last = (
    measured[n][KEY].get('full') or measured[n][KEY] for n in (0, -1)
  )
  if not measured[-1][KEY].get('full'):
    first = measured[0][KEY]  # On the same items.
  find = lambda record, part, name: (record.get(part) or {}).get(name)
  mornings = [e[KEY]['cpu_seconds'] for e in measured if not e[KEY].get('full')]
  return {
    'perplexity_initial': find(first, 'text', 'perplexity'),
    'perplexity': find(last, 'text', 'perplexity'),
    'perplexity_change': find(last, 'text', 'change'),
    'text_tokens': find(last, 'text', 'tokens'),
    'everyday_kl': find(last, 'everyday', 'kl'),
    'reading_initial': find(first, 'reading', 'contained'),
    'reading': find(last, 'reading', 'contained'),
    'reading_change': find(last, 'reading', 'change'),
    'reading_low': find(last, 'reading', 'low'),
    'reading_high': find(last, 'reading', 'high'),
    'reading_exact_change': find(last, 'reading', 'exact_change'),
    'reading_questions': find(last, 'reading', 'questions'),
    'ability_cpu_seconds': cycles.mean_known(mornings),
  }
