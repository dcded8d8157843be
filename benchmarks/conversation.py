"""Measures recall of a conversation before and after the night.

    python -m benchmarks.conversation --work=FOLDER --out=FILE

A small model is pretrained for this: its training data are conversations about
people, each followed by a question about one of them and the answer, so that it
learns to answer from its context. It is exported as an ordinary Hugging Face
directory with a chat template, from which the chat session starts as it would
from any other model.

Each day, messages tell the model about new people. In the evening it is asked
about them with the day in its context and with an empty context. After the
night it is asked about all days so far and about its pretraining data. Every
question is a conversation of its own and is not stored. At the end one night is
forgotten and all questions are asked again. An answer counts as right if it is
exactly equal to the expected one.
"""

import argparse
import json
import pathlib
import random
import time

from configs import documents, jsonl
from sleep_jax import api
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.datasets import facts
from sleep_jax.interop import hf_export, open_model
from sleep_jax.runs import chat_session, study

DAYS, PEOPLE, FORGOTTEN = 3, 8, 2
NUM_PRETRAIN_PROBES = 60
MAX_MESSAGES = 2  # Of a pretraining example: as many as a day's window holds.
# Tokens: rows of pretraining, windows of a day, and their overlap.
CONTEXT, WINDOW, OVERLAP = 80, 48, 24
# Messages are encoded separately and start with a space, so a line break must
# not be followed by one.
LINE = ' \n'
TEMPLATE = (
  '{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}'
  "{{ ' \\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
ACKNOWLEDGEMENT = 'Noted.'
ANSWER_REPEATS = 6  # Additional copies of an answer in the pretraining data.


def make_dataset(seed: int) -> dataset_lib.Dataset:
  return facts.make(
    num_pretrain=120, num_days=DAYS, people_per_day=PEOPLE, attributes=2,
    readings=20_000, seed=seed,
  )  # fmt: skip


def pretrain_rows(
  dataset: dataset_lib.Dataset, seed: int
) -> list[dict[str, str]]:
  """Returns the pretraining data: facts as chat turns, and conversations.

  Half of the conversations continue with a repetition of an earlier message,
  because a model that learns to copy also learns to answer from its context.
  """
  rng, rows, readings = random.Random(seed), [], []
  for row in dataset.pretrain:
    if row.target_start:
      readings.append(
        (row.text[: row.target_start - 1], row.text[row.target_start :])
      )
    elif row.response_start is None:
      rows.append({'text': f'{_turn(row.text)} {ACKNOWLEDGEMENT}'})
    else:
      prompt, answer = _question_and_answer(row.text)
      rows.append({'text': f'{prompt} {answer}'})
      rows += [{'prompt': prompt, 'response': answer}] * ANSWER_REPEATS
  for document, target in readings:
    messages = [
      rng.choice(readings)[0] for _ in range(rng.randrange(MAX_MESSAGES))
    ]
    position = rng.randint(0, len(messages))
    messages.insert(position, document)
    window = _window(rng, messages, position)
    if '?' not in target:
      rows.append(
        {'prompt': window, 'response': f'{_turn(target)} {ACKNOWLEDGEMENT}'}
      )
      continue
    question, answer = _question_and_answer(target)
    prompt, response = rng.choices(
      [
        # As at night: a window of a day, followed by a question about it.
        (window, f'{question} {answer}'),
        (f'{window} {question}', answer),
        # As during the day: in the format of the chat template.
        (f'{_conversation(messages, LINE)}{LINE}{question}', answer),
        (
          _conversation(messages, LINE).removesuffix(f' {ACKNOWLEDGEMENT}'),
          ACKNOWLEDGEMENT,
        ),
      ],
      weights=[40, 25, 25, 10],
    )[0]
    rows.append({'prompt': prompt, 'response': response})
  rng.shuffle(rows)
  return rows


def _question_and_answer(text: str) -> tuple[str, str]:
  """Splits a text into a question in the template's format and its answer."""
  question, answer = text.split('? ')
  return _turn(f'{question}?'), answer


def _turn(message: str) -> str:
  """Returns a message in the template's format, up to the answer."""
  return f'user: {message}{LINE}assistant:'


def _conversation(messages: list[str], line: str = '\n') -> str:
  """Returns a conversation as `ChatSession.sleep` writes it.

  With `line=LINE` it has the format of the chat template.
  """
  return line.join(
    f'user: {message}{line}assistant: {ACKNOWLEDGEMENT}' for message in messages
  )


def _window(rng, messages: list[str], kept: int) -> str:
  """Returns a random part of a conversation that contains message `kept`."""
  words = _conversation(messages).split(' ')
  sizes = [len(_conversation([message]).split(' ')) - 1 for message in messages]
  before, after = sum(sizes[:kept]), sum(sizes[kept + 1 :])
  if before and rng.random() < 0.5:
    words = words[rng.randrange(before) :]
  if after and rng.random() < 0.5:
    words = words[: len(words) - rng.randrange(after)]
  return ' '.join(words)


def pretrain(work: pathlib.Path, seed: int, steps: int) -> str:
  """Pretrains the model, unless it exists; returns its Hugging Face folder."""
  folder = work / 'base_model'
  if (folder / 'chat_template.jinja').is_file():
    return str(folder)
  for name in ('pretrain', 'days'):
    (work / name).mkdir(parents=True, exist_ok=True)
  text = '\n'.join(map(json.dumps, pretrain_rows(make_dataset(seed), seed)))
  (work / 'pretrain' / 'pretrain.jsonl').write_text(text)
  (work / 'days' / 'day.jsonl').write_text(json.dumps({'text': 'user: hello'}))
  c = jsonl.get_config()
  c.strategies, c.seeds = ('sft',), (seed,)
  c.wake.steps = 1  # Only pretraining is needed.
  c.data.path = str(work / 'days')
  c.data.settings.pretrain = str(work / 'pretrain')
  c.data.update(
    context=CONTEXT, max_prompt=CONTEXT, batch_size=12, pack=True,
    loss_on='response',
  )  # fmt: skip
  first, own = c.levels
  c.levels = (first | dict(hidden=1), own)
  c.pretrain.steps = c.pretrain.optimizer.decay_steps = steps
  run = str(work / 'run')
  study.Study(c, run).run()
  loaded = open_model.open_model(run, strategy='pretrain', seed=seed)
  hf_export.save(
    loaded.model, loaded.weights, str(folder), tokenizer=loaded.tokenizer
  )
  *_, end_of_line = loaded.tokenizer.encode(LINE)
  (folder / 'generation_config.json').write_text(
    json.dumps({'eos_token_id': [loaded.tokenizer.eos, end_of_line]})
  )
  (folder / 'chat_template.jinja').write_text(TEMPLATE)
  return str(folder)


def chat_config():
  """Returns configs/documents.py for a model of this size.

  Rehearsal prompts are BOS alone, with and without a window of the day in the
  context, because the model has no templates for questions.
  """
  c = documents.get_config()
  c.data.update(context=WINDOW, overlap=OVERLAP, batch_size=1)
  c.replay.day = 64
  # At least the number of windows of a day.
  c.wake.update(steps=9, epochs=0)
  c.data.settings.templates = ()
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(sequences=48, draws=192, bos_share=1.0),
    day | dict(sequences=40, draws=144, bos_share=1.0),
  )
  c.consolidate.update(
    num_updates=240, max_length=20, max_new=19, prompt_width=10
  )
  c.expert_optimizer.learning_rate = (
    3e-3  # At 8e-3 it forgets how to use its context.
  )
  return c


def accuracy(chat: chat_session.ChatSession, probes, contexts=()) -> float:
  """Returns the share of right answers; each question is asked separately.

  Args:
    chat: the conversation; it is restored afterwards.
    probes: questions and answers.
    contexts: lists of messages that precede the questions; question i gets
      entry i modulo their number. If empty, the context is empty.
  """
  messages, num_right = chat.messages, 0
  for number, probe in enumerate(probes):
    chat.messages = list(contexts[number % len(contexts)]) if contexts else []
    answer = ''.join(chat.say(probe.prompt))
    num_right += answer.strip() == probe.answer.strip()
  chat.messages = messages
  chat.save()
  return num_right / len(probes)


def measure(work: pathlib.Path, seed: int, steps: int) -> dict:
  dataset, home = make_dataset(seed), work / f'seed_{seed}'
  learner = api.load(
    pretrain(home, seed, steps), str(home / 'chat'), config=chat_config(),
    seed=seed,
  )  # fmt: skip
  chat = chat_session.ChatSession(learner, max_new=8)
  if learner.session.days or chat.messages:
    raise SystemExit(f'{home}/chat already has a conversation: remove it.')
  probe_sets = {'pretrain': dataset.probes['pretrain'][:NUM_PRETRAIN_PROBES]}
  probe_sets |= {f'day {d}': dataset.probes[str(d)] for d in range(1, DAYS + 1)}
  rows = []

  def score(when, **more):
    found = {
      name: accuracy(chat, probes) for name, probes in probe_sets.items()
    }
    rows.append({'when': when, **found, **more})
    print(json.dumps(rows[-1]), flush=True)

  score('initial')
  for day, (_, rows_of_day) in enumerate(dataset.experiences, 1):
    answers = [''.join(chat.say(row.text)) for row in rows_of_day]
    name, messages = f'day {day}', chat.messages
    # Probes are about the people in the order of the messages, repeatedly.
    single = [messages[2 * index :][:2] for index in range(len(rows_of_day))]
    rows.append({
      'when': f'evening of {name}', 'its questions': {
        'message in context': accuracy(chat, probe_sets[name], single),
        'day in context': accuracy(chat, probe_sets[name], [messages]),
        'empty context': accuracy(chat, probe_sets[name]),
      },
      'answers to what was told': sorted(set(answers)),
    })  # fmt: skip
    print(json.dumps(rows[-1]), flush=True)
    start = time.process_time()
    accepted = chat.sleep()[-1]['accepted']
    score(
      f'morning after {name}', night='kept' if accepted else 'discarded',
      cpu_seconds_with_compiling=round(time.process_time() - start),
    )  # fmt: skip
  chat.forget(FORGOTTEN, lambda question: False)
  score(f'night {FORGOTTEN} forgotten')
  return {'seed': seed, 'rows': rows}


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--work', required=True)
  parser.add_argument('--seeds', type=int, nargs='+', default=[0])
  parser.add_argument(
    '--steps', type=int, default=6000, help='Pretraining steps.'
  )
  parser.add_argument('--out')
  args = parser.parse_args()
  found = [
    measure(pathlib.Path(args.work), seed, args.steps) for seed in args.seeds
  ]
  if args.out:
    text = json.dumps(found, indent=1)
    pathlib.Path(args.out).write_text(text + '\n')
