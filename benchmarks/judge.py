"""How well does a sentence encoder tell right answers from wrong ones?

    python -m benchmarks.judge --seeds=0,1,2,3 \
      --answers=docs/results/real/questions.json \
      --out=docs/results/real/judge.json

Three sets of pairs (wanted, found), all of the validation split:
  statements: a fact in two wordings, against the same with another value;
  values: the value alone, against another one of its kind;
  answers: what a model answered (of benchmarks/question_writing), against the
    value; right if it contains the value.
Scores of a pair: the cosine of the encoder, and whether the judges `match` and
`encoder:` of config.consolidate.imitation.judge call it the same.
"""

import argparse
import json
import pathlib

import numpy as np
from scipy import stats

from benchmarks.real_model import facts, texts, words
from sleep_jax.objectives import sentence_encoder
from sleep_jax.storage import known_models

_ATTRIBUTES = {a.name: a for a in words.ATTRIBUTES}


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--encoder', default=str(known_models.folder('minilm')))
  parser.add_argument('--seeds', default='0,1,2,3')
  parser.add_argument('--answers', type=pathlib.Path)
  parser.add_argument('--out', type=pathlib.Path)
  args = parser.parse_args()
  encoder = sentence_encoder.Encoder(args.encoder)
  told = [
    fact
    for seed in args.seeds.split(',')
    for day in facts.days(int(seed), num_days=1)
    for fact in day.facts
  ]
  sets = {'statements': _statements(told), 'values': _values(told)}
  if args.answers and args.answers.is_file():
    sets |= _answers(json.loads(args.answers.read_text()))
  found = {name: _measure(encoder, pairs) for name, pairs in sets.items()}
  print(json.dumps(found, indent=1))
  if args.out:
    args.out.write_text(json.dumps(found, indent=1) + '\n')


def _statements(told):
  """Returns (wanted, found, is right) for facts as sentences."""
  rng, pairs = np.random.default_rng(0), []
  for fact in told:
    wordings = _ATTRIBUTES[fact.attribute].written
    one, two = (wordings[n] for n in rng.permutation(len(wordings))[:2])
    wanted = one.format(fact.person, fact.value)
    pairs.append((wanted, two.format(fact.person, fact.value), True))
    pairs.append((wanted, two.format(fact.person, _other(fact, rng)), False))
  return pairs


def _values(told):
  rng, pairs = np.random.default_rng(1), []
  for fact in told:
    sentence = texts.questions(fact)[0].statement
    pairs.append((fact.value, sentence, True))
    wrong = sentence.replace(fact.value, _other(fact, rng))
    pairs.append((fact.value, wrong, False))
  return pairs


def _other(fact, rng):
  """Returns another value of the same kind and split."""
  of_kind = words.of_split(_ATTRIBUTES[fact.attribute].values, words.VALIDATION)
  return str(rng.choice([value for value in of_kind if value != fact.value]))


def _answers(record):
  """Returns pairs of a fact as a sentence and a model's answer, by its form."""
  return {
    f'answers_{form}': [
      (row['statement'], row[form], facts.contains(row[form], row['value']))
      for day in record['days']
      for row in day['answers']
    ]
    for form in record['days'][0]['answers'][0]['forms']
  }


def _measure(encoder, pairs):
  """Returns how well each score separates right pairs from wrong ones."""
  wanted, found, right = zip(*pairs, strict=True)
  right_N = np.array(right)
  cosine_N = np.sum(encoder(wanted) * encoder(found), 1)
  plain = lambda text: ''.join(c for c in text.casefold() if c.isalnum())
  match_N = np.array([
    plain(a) == plain(b) for a, b in zip(wanted, found, strict=True)
  ])  # fmt: skip
  judged_N = sentence_encoder.are_similar(encoder, wanted, found) > 0
  limits = np.concatenate([[-1], np.sort(cosine_N)])
  accuracy = [np.mean((cosine_N > limit) == right_N) for limit in limits]
  best = int(np.argmax(accuracy))
  return {
    'pairs': len(pairs), 'right': int(right_N.sum()),
    'auc': _auc(cosine_N, right_N),
    'best_accuracy': float(accuracy[best]),
    'best_limit': float(limits[best]),
    'accuracy_encoder_judge': float(np.mean(judged_N == right_N)),
    'encoder_judge_accepts_right': _mean(judged_N[right_N]),
    'encoder_judge_accepts_wrong': _mean(judged_N[~right_N]),
    'accuracy_match': float(np.mean(match_N == right_N)),
    'accuracy_constant': float(max(right_N.mean(), 1 - right_N.mean())),
    'mean_cosine_right': _mean(cosine_N[right_N]),
    'mean_cosine_wrong': _mean(cosine_N[~right_N]),
  }  # fmt: skip


def _auc(score_N, right_N):
  """Returns the probability that a right pair scores above a wrong one."""
  num, other = int(right_N.sum()), int((~right_N).sum())
  if not num or not other:
    return None
  ranks_N = stats.rankdata(score_N)
  above = ranks_N[right_N].sum() - num * (num + 1) / 2
  return float(above / (num * other))


def _mean(values):
  return float(np.mean(values)) if len(values) else None


if __name__ == '__main__':
  main()
