"""What was said today, asked tomorrow with an empty context.

    python -m benchmarks.conversation --work=FOLDER --out=FILE

No real model is at hand, so a small one is born here that can read: birth
holds conversations about strangers, each followed by a question about one of
them and its answer. It leaves as an ordinary Hugging Face directory with a chat
template, and `conversation.Conversation` is given that, as it would be any
other.

Then, day by day: people it has never heard of are told, one message each; what
was told is asked in the evening, with the day in the context and with an empty
one; it sleeps; in the morning every day so far, and birth, is asked. Each
question is a conversation of its own with an empty context, and no part of the
day. In the end one night is forgotten, and all is asked again. A question is
answered where the answer is right to the letter.
"""

import argparse
import json
import pathlib
import random
import time

from configs import chat, jsonl
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.datasets import facts
from sleep_jax.interop import hf_export, open_model
from sleep_jax.runs import chat_session, study

DAYS, PEOPLE, FORGOTTEN = 3, 8, 2
BIRTH_ASKED = 60  # Questions about what was known from birth.
TOLD = 2  # Messages of a reading, at most: as many as a window of a day holds.
CONTEXT, WINDOW, OVERLAP = 80, 48, 24  # Tokens, at birth and of a day.
# What is said is encoded apart and gets a space in front, so nothing else does.
LINE = ' \n'
TEMPLATE = (
  '{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}'
  "{{ ' \\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
READ = 'Noted.'
KNOWN = 6  # Times that the answer alone is learned of a question of birth.


def town(seed: int) -> dataset_lib.Dataset:
  return facts.make(
    num_pretrain=120, num_days=DAYS, people_per_day=PEOPLE, attributes=2,
    readings=20_000, seed=seed,
  )  # fmt: skip


def pretrain_rows(
  dataset: dataset_lib.Dataset, seed: int
) -> list[dict[str, str]]:
  """What everybody knows, as chat turns; and conversations that go on.

  Half of these go on with something that was told, told again: who learns to
  copy learns to answer.
  """
  rng, rows, readings = random.Random(seed), [], []
  for row in dataset.pretrain:
    if row.target_start:
      readings.append(
        (row.text[: row.target_start - 1], row.text[row.target_start :])
      )
    elif row.response_start is None:
      rows.append({'text': f'{_turn(row.text)} {READ}'})
    else:
      prompt, answer = _asked(row.text)
      rows.append({'text': f'{prompt} {answer}'})
      rows += [{'prompt': prompt, 'response': answer}] * KNOWN
  for document, again in readings:
    told = [rng.choice(readings)[0] for _ in range(rng.randrange(TOLD))]
    place = rng.randint(0, len(told))
    told.insert(place, document)
    window = _window(rng, told, place)
    if '?' not in again:
      rows.append({'prompt': window, 'response': f'{_turn(again)} {READ}'})
      continue
    asked, answer = _asked(again)
    prompt, response = rng.choices(
      [
        # At night: what a window of a day is followed by, its own question.
        (window, f'{asked} {answer}'),
        (f'{window} {asked}', answer),
        # By day: in the words of the template.
        (f'{_talk(told, LINE)}{LINE}{asked}', answer),
        (_talk(told, LINE).removesuffix(f' {READ}'), READ),
      ],
      weights=[40, 25, 25, 10],
    )[0]
    rows.append({'prompt': prompt, 'response': response})
  rng.shuffle(rows)
  return rows


def _asked(text: str) -> tuple[str, str]:
  """A question in the words of the template, and its answer."""
  question, answer = text.split('? ')
  return _turn(f'{question}?'), answer


def _turn(said: str) -> str:
  """Something said in the words of the template, up to its answer."""
  return f'user: {said}{LINE}assistant:'


def _talk(told: list[str], line: str = '\n') -> str:
  """As `Conversation.sleep` writes a day, or in the template."""
  return line.join(f'user: {one}{line}assistant: {READ}' for one in told)


def _window(rng, told: list[str], kept: int) -> str:
  """A conversation that begins and ends anywhere, but holds what is asked."""
  tokenizer = _talk(told).split(' ')
  sizes = [len(_talk([one]).split(' ')) - 1 for one in told]
  before, after = sum(sizes[:kept]), sum(sizes[kept + 1 :])
  if before and rng.random() < 0.5:
    tokenizer = tokenizer[rng.randrange(before) :]
  if after and rng.random() < 0.5:
    tokenizer = tokenizer[: len(tokenizer) - rng.randrange(after)]
  return ' '.join(tokenizer)


def born(work: pathlib.Path, seed: int, steps: int) -> str:
  """The model as a Hugging Face directory; made where it is missing."""
  folder = work / 'base_model'
  if (folder / 'chat_template.jinja').is_file():
    return str(folder)
  for name in ('pretrain', 'days'):
    (work / name).mkdir(parents=True, exist_ok=True)
  text = '\n'.join(map(json.dumps, pretrain_rows(town(seed), seed)))
  (work / 'pretrain' / 'birth.jsonl').write_text(text)
  (work / 'days' / 'day.jsonl').write_text(json.dumps({'text': 'user: hello'}))
  c = jsonl.get_config()
  c.strategies, c.seeds = ('sft',), (seed,)
  c.wake.steps = 1  # Only birth counts.
  c.data.path = str(work / 'days')
  c.data.settings.pretrain = str(work / 'pretrain')
  c.data.update(
    context=CONTEXT, max_prompt=CONTEXT, batch_size=12, pack=True,
    loss_on='response',
  )  # fmt: skip
  first, own = c.levels
  c.levels = (first | dict(hidden=1), own)
  c.pretrain.steps = c.pretrain.optimizer.decay_steps = steps
  life = str(work / 'life')
  study.Study(c, life).run()
  opened = open_model.open_model(life, strategy='pretrain', seed=seed)
  hf_export.save(
    opened.model, opened.weights, str(folder), tokenizer=opened.tokenizer
  )
  *_, end_of_line = opened.tokenizer.encode(LINE)
  (folder / 'generation_config.json').write_text(
    json.dumps({'eos_token_id': [opened.tokenizer.eos, end_of_line]})
  )
  (folder / 'chat_template.jinja').write_text(TEMPLATE)
  return str(folder)


def nights():
  """configs/chat.py for a model this small, which has a language this small.

  Its self-study is what it writes of its own accord, behind a window of the day
  and without one.
  """
  c = chat.get_config()
  c.data.update(context=WINDOW, overlap=OVERLAP)
  c.wake.steps = 9  # Windows of a day, at most.
  c.data.settings.templates = ()
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(sequences=48, draws=192, bos_share=1.0),
    day | dict(sequences=40, draws=144, bos_share=1.0),
  )
  c.consolidate.update(
    num_updates=240, max_length=20, max_new=19, prompt_width=10
  )
  c.expert_optimizer.learning_rate = 3e-3  # At 8e-3 it forgets how to read.
  return c


def ask(talk: chat_session.ChatSession, probes, before=()) -> float:
  """Share of questions that are answered right; each is asked alone.

  Args:
    before: messages that stand before the questions, in turns: the first before
      the first, and so on, and around again; none: an empty context.
  """
  today, right = talk.messages, 0
  for number, probe in enumerate(probes):
    talk.messages = list(before[number % len(before)]) if before else []
    right += ''.join(talk.say(probe.prompt)).strip() == probe.answer.strip()
  talk.messages = today
  talk.save()
  return right / len(probes)


def measure(work: pathlib.Path, seed: int, steps: int) -> dict:
  dataset, home = town(seed), work / f'seed_{seed}'
  talk = chat_session.ChatSession(
    nights(), str(home / 'chat'), born(home, seed, steps), max_new=8,
    seed=seed,
  )  # fmt: skip
  if talk.days or talk.messages:
    raise SystemExit(f'{home}/chat has been talked to: remove it.')
  asked = {'pretrain': dataset.probes['pretrain'][:BIRTH_ASKED]}
  asked |= {f'day {d}': dataset.probes[str(d)] for d in range(1, DAYS + 1)}
  rows = []

  def score(when, **more):
    found = {name: ask(talk, probes) for name, probes in asked.items()}
    rows.append({'when': when, **found, **more})
    print(json.dumps(rows[-1]), flush=True)

  score('initial')
  for day, (_, told) in enumerate(dataset.experiences, 1):
    answers = [''.join(talk.say(row.text)) for row in told]
    name, said = f'day {day}', talk.messages
    # Questions go through the people again and again, in the order of messages.
    alone = [said[2 * place :][:2] for place in range(len(told))]
    rows.append({
      'when': f'evening of {name}', 'its questions': {
        'message in context': ask(talk, asked[name], alone),
        'day in context': ask(talk, asked[name], [said]),
        'empty context': ask(talk, asked[name]),
      },
      'answers to what was told': sorted(set(answers)),
    })  # fmt: skip
    print(json.dumps(rows[-1]), flush=True)
    began = time.process_time()
    kept = talk.sleep()[-1]['accepted']
    score(
      f'morning after {name}', night='kept' if kept else 'discarded',
      cpu_seconds_with_compiling=round(time.process_time() - began),
    )  # fmt: skip
  talk.forget(FORGOTTEN, lambda where: False)
  score(f'night {FORGOTTEN} forgotten')
  return {'seed': seed, 'rows': rows}


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--work', required=True)
  parser.add_argument('--seeds', type=int, nargs='+', default=[0])
  parser.add_argument('--steps', type=int, default=6000, help='Of birth.')
  parser.add_argument('--out')
  args = parser.parse_args()
  found = [
    measure(pathlib.Path(args.work), seed, args.steps) for seed in args.seeds
  ]
  if args.out:
    text = json.dumps(found, indent=1)
    pathlib.Path(args.out).write_text(text + '\n')
