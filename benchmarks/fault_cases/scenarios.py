"""Small runs, chats and sessions that a case interrupts and continues.

Each is a command that a user would give again after an interruption. `script`
returns what he would type into a chat then, which depends on what the chat has
kept.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

from benchmarks.fault_cases import processes
from launch import tiny_llama

CONFIGS = processes.ROOT / 'benchmarks' / 'fault_cases' / 'configs'
SESSION = 'benchmarks.fault_cases.session'
MESSAGES = (
  ('Ann has a cat.', 'Bo is a cook.'),
  ('Cy lives in Rome.',),
  ('Di has a hen.',),
)  # By day.
DAYS = {
  'day_8': ('Ann has a cat.', 'Ann is a cook.', 'Ann likes tea.'),
  'day_9': ('Bo has a dog.', 'Bo is a clerk.'),
  'day_10': ('Cy has a hen.', 'Cy is a smith.'),
}


@dataclasses.dataclass(frozen=True)
class Scenario:
  """A command and its inputs.

  Attributes:
    name: of the scenario.
    flags: of the command; '{home}' is the folder of the case.
    prepare: writes the inputs into the folder of the case.
    module: of the command.
    script: returns the standard input that is left to type.
    first: flags of a command that runs before, such as an import.
  """

  name: str
  flags: tuple[str, ...]
  prepare: Callable[[pathlib.Path], None] = lambda home: None
  module: str = 'sleep_jax.main'
  script: Callable[[pathlib.Path], str] = lambda home: ''
  first: tuple[str, ...] = ()

  def commands(self, home: pathlib.Path) -> list[list[str]]:
    """Returns the arguments of each process that is left, in order."""
    own = ['-m', self.module, *self.flags, f'--workdir={work(home)}']
    # config.json is the last file of an import.
    imported = (home / 'imported' / 'config.json').exists()
    commands = (
      [own] if imported or not self.first else [['-m', *self.first], own]
    )
    return [[word.format(home=home) for word in words] for words in commands]


def work(home: pathlib.Path) -> pathlib.Path:
  """Returns the work directory of a case."""
  return home / 'work'


def config(name: str) -> str:
  """Returns the flag for one of the configs of the campaign."""
  return f'--config={CONFIGS / name}.py'


def write_days(home: pathlib.Path, names: Sequence[str] = tuple(DAYS)) -> None:
  """Writes days as JSON lines."""
  folder = home / 'days'
  folder.mkdir(exist_ok=True)
  for name in names:
    rows = [json.dumps({'text': text}) for text in DAYS[name]]
    (folder / f'{name}.jsonl').write_text('\n'.join(rows) + '\n')


def write_llama(home: pathlib.Path) -> None:
  """Writes a pretrained model with a chat template."""
  tiny_llama.write(home / 'llama')


def messages_left(home: pathlib.Path) -> str:
  """Returns the lines of the chat that were not heard or slept on yet.

  Without a night under way, /sleep is refused, which does no harm.
  """
  days = sorted((work(home) / 'days').glob('day_*.jsonl'))
  file = work(home) / 'today.json'
  today = json.loads(file.read_text()) if file.exists() else {}
  messages = today.get('messages', [])
  if today.get('becomes') in [day.stem for day in days]:
    messages = []
  said = sum(message['role'] == 'user' for message in messages)
  lines = ['/sleep'] if days and not messages else []
  for day in MESSAGES[len(days) :]:
    lines += [*day[said:], '/sleep']
    said = 0
  return '\n'.join([*lines, '/quit']) + '\n'


_DREAMS = config('dreams')
_TALK = (config('talk'), '--model={home}/llama', '--max_new=8')
_IMPORT = (
  '--config.pretrain.steps=0',
  '--config.model.arrangement=independent',
  '--config.model.router=always',
  '--config.data.context=64',
  '--config.data.max_prompt=60',
  '--config.consolidate.prompt_width=48',
  '--config.consolidate.max_length=64',
  '--config.consolidate.max_new=8',
)
SCENARIOS = {
  s.name: s
  for s in (
    Scenario('nights', (config('facts'),)),
    Scenario(
      'merges',
      (
        config('facts'),
        '--config.data.settings.num_days=3',
        '--config.levels[1].slots=2',
        '--config.consolidate.full=merge',
      ),
    ),
    Scenario('dreams', (_DREAMS,)),
    Scenario(
      'tuning',
      (
        _DREAMS,
        "--config.strategies=('sft','seal')",
        '--config.tune.learning_rates=(0.001,0.003)',
      ),
    ),
    Scenario(
      'import',
      (
        config('facts'), *_IMPORT,
        '--config.pretrain.base_model={home}/llama',
      ),
      write_llama,
    ),
    Scenario(
      'imported',
      (
        config('facts'), *_IMPORT,
        '--config.pretrain.restore={home}/imported',
      ),
      write_llama,
      first=(
        'sleep_jax.convert', 'in', config('facts'), *_IMPORT,
        '--model={home}/llama', '--to={home}/imported',
      ),
    ),
    Scenario(
      'days', (config('lines'), '--config.data.path={home}/days'), write_days
    ),
    Scenario('chat', _TALK, write_llama, 'sleep_jax.chat', messages_left),
    Scenario(
      'session', ('--model={home}/llama',), write_llama, SESSION
    ),
  )
}  # fmt: skip
