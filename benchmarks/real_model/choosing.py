"""Tries settings on what is never reported: recall, and what is kept.

python -m benchmarks.real_model.choosing --config=pretrained --seed=5 \
  --text=WIKITEXT_VALIDATION --name=weight_4 --config.wake.kl_penalty.weight=4

Facts are of the validation split, the text is its own, and the everyday
requests are those of the guard. Questions about a passage (--reading, --more,
see `benchmarks.reading_forms`) are not among the reported ones. With --texts
the initial model also writes own texts that are never rehearsed. After each day
and each night one row is added to --out; rows of the same name are replaced.
"""

import dataclasses
import fcntl
import json
import pathlib
import sys
import time

import ml_collections
import numpy as np
from absl import app, flags

import sleep_jax
from benchmarks import reading_forms
from benchmarks.real_model import ability as ability_lib
from benchmarks.real_model import facts, measuring, recall, texts, words
from sleep_jax import errors
from sleep_jax.evaluate import (
  ability,
  asking,
  everyday_prompts,
  text_windows,
  token_rows,
)
from sleep_jax.runs import command_line, rehearsal_texts
from sleep_jax.storage import compile_cache, provenance, workdir

_CONFIG = command_line.define_config('Of days and nights.')
_NAME = flags.DEFINE_string('name', None, 'Of what is tried.')
_TEXT = flags.DEFINE_string('text', None, 'File of ordinary text.')
_READING = flags.DEFINE_string(
  'reading', '', 'File of questions about passages.'
)
_MORE = flags.DEFINE_string('more', '', 'File of more of them.')
_QUESTIONS = flags.DEFINE_integer('questions', 60, 'Number of them.', 1)
_TEXTS = flags.DEFINE_integer('texts', 0, 'Own texts that are held out.', 0)
_TOKENS = flags.DEFINE_integer('tokens', 4096, 'Predicted tokens of it.', 1)
_FORM = flags.DEFINE_enum('form', recall.ROWS, recall.FORMS, 'Of what is told.')
_SEED = flags.DEFINE_integer('seed', 5, 'Of the facts and of the run.', 0)
_DAYS = flags.DEFINE_integer('num_days', 2, 'Days, each with its night.', 1)
_MODEL = flags.DEFINE_string('model', 'smollm2', 'Pretrained model.')
_OUT = flags.DEFINE_string(
  'out', 'docs/results/real/choosing.json', 'File of all rows.'
)
_MAX_NEW = 32  # Tokens of an answer to a request.


class Ability:
  """What the initial model could do, to which later ones are compared.

  Args:
    model: its folder or name.
    config: of the runs.
  """

  def __init__(self, model: str, config: ml_collections.ConfigDict):
    learner = sleep_jax.load(model, verbose=False)
    self._first = dataclasses.replace(
      learner.loaded, model=ability_lib.with_products(learner.loaded, config)
    )
    tokenizer = self._first.tokenizer
    self._form = asking.make_form(tokenizer, learner.chat_template())
    first = self._first.model, self._first.weights
    self._sets = ability.Sets(
      text=text_windows.load(_TEXT.value, tokenizer, _TOKENS.value),
      everyday=ability.write_answers(
        *first, self._form, everyday_prompts.GUARD, max_new=_MAX_NEW
      ),
      reading=_READING.value
      and reading_forms.questions(
        _READING.value, _MORE.value, tokenizer, _QUESTIONS.value
      ),
    )
    self._before = self._measure(self._first)
    self._held_out = self._read(_held_out_texts(self._first, self._form))

  def change(self, loaded) -> dict[str, float]:
    """Returns what a model lost."""
    found = ability.compare(
      loaded.model, self._first.weights, loaded.weights, self._before,
      self._measure(loaded),
    )  # fmt: skip
    return {
      'perplexity_change': found['text']['change'],
      'everyday_kl': found['everyday']['kl'],
      **{
        f'reading_{name}': found['reading'][name]
        for name in ('contained', 'change')
        if 'reading' in found
      },
      **{
        f'{name}_kl': float(np.mean(self._divergence(loaded, rows, states_MD)))
        for name, (rows, states_MD) in self._held_out.items()
      },
    }

  def _read(self, kinds):
    model, weights = self._first.model, self._first.weights
    packed = {name: token_rows.pack(rows) for name, rows in kinds.items()}
    return {
      name: (rows, token_rows.states(model, weights, rows))
      for name, rows in packed.items()
    }

  def _divergence(self, loaded, rows, states_MD):
    states = token_rows.states(loaded.model, loaded.weights, rows)
    return token_rows.divergences(
      loaded.model, self._first.weights, states_MD, loaded.weights, states
    )

  def _measure(self, loaded):
    parts = loaded.model, loaded.weights, loaded.tokenizer
    return ability.measure(*parts, self._form, self._sets)


def _held_out_texts(first, form) -> dict[str, list[token_rows.Target]]:
  """Returns own texts of another seed than that of any run, by their kind."""
  if not _TEXTS.value:
    return {}
  written = rehearsal_texts.write(
    first.model, first.weights, first.tokenizer, form, num=_TEXTS.value,
    width=_CONFIG.value.consolidate.max_length, seed=10_000 + _SEED.value,
  )  # fmt: skip
  kinds: dict[str, list[token_rows.Target]] = {}
  for text in written:
    kind = 'free_text' if text.start == 1 else 'conversation'
    if len(text.tokens) > text.start:
      target = token_rows.Target(text.tokens, text.start)
      kinds.setdefault(kind, []).append(target)
  return kinds


def _ask_in_other_wordings(learner, asked, form, answers) -> dict[str, float]:
  """Returns the recall of facts about people in six wordings, not of rows.

  Of a conversation also that of what the user said of himself or herself.
  """
  if form == recall.ROWS:
    return {}
  of_user = [row for row in answers if row['person'] == facts.USER]
  told = dict.fromkeys(q.fact for q in asked if q.fact.person != facts.USER)
  others = [q for fact in told for q in texts.row_questions(fact)]
  answers = [row for row in answers if row['person'] != facts.USER]
  answers += recall.ask(learner, others, form)
  found = {'six_wordings': recall.summary(answers)['contained']}
  if of_user:
    found['of_user'] = recall.summary(of_user)['contained']
  return found


def main(argv):
  del argv
  command_line.suppress_library_warnings()
  config, form = _CONFIG.value, _FORM.value
  try:
    compile_cache.start(config.compile_cache)
    first = Ability(_MODEL.value, config)
    learner = sleep_jax.load(
      _MODEL.value, config=config, seed=_SEED.value, verbose=False
    )
    days = facts.days(_SEED.value, _DAYS.value, split=words.VALIDATION)
    for day in days:
      told = days[: day.number]
      rows = recall.rows_of(day, form)
      for moment, work in (
        ('evening', lambda rows=rows: learner.wake(rows)),
        ('morning', learner.sleep),
      ):
        cost: dict[str, float] = {}
        with measuring.measure(cost):
          work()
        asked = recall.questions_of(told, form)
        answers = recall.ask(learner, asked, form)
        more = _ask_in_other_wordings(learner, asked, form, answers)
        _add({
          'name': _NAME.value, 'form': form, 'seed': _SEED.value,
          'day': day.number, 'moment': moment, **cost,
          'recall': recall.summary(answers)['contained'],
          'new': recall.summary(
            [row for row in answers if row['day'] == day.number]
          )['contained'],
          **more, 'corrections': recall.corrections(answers, told),
          **first.change(learner.loaded), 'revision': provenance.revision(),
          'time': time.strftime('%Y-%m-%d'),
        })  # fmt: skip
  except errors.SleepJaxError as error:
    sys.exit(f'error: {error}')


def _add(row) -> None:
  """Adds a row to the file, in place of one of the same name and moment."""
  key = lambda r: [r[n] for n in ('name', 'form', 'seed', 'day', 'moment')]
  file = pathlib.Path(_OUT.value)
  file.parent.mkdir(parents=True, exist_ok=True)
  # Two processes may try settings side by side.
  with open(file.with_name(file.name + '.lock'), 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    known = json.loads(file.read_text()) if file.exists() else []
    known = [r for r in known if key(r) != key(row)] + [row]
    lines = ',\n'.join(json.dumps(r) for r in known)
    workdir.write_text(file, f'[\n{lines}\n]\n')
  print(json.dumps(row), flush=True)


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'name', 'text'])
  app.run(main, flags_parser=command_line.parser())
