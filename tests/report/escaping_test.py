"""Text of rows, names, settings and messages is text in the report."""

import html.parser
import itertools

import pytest

from sleep_jax.report import report
from tests.report import report_test

# Elements and attributes that the page has itself.
TAGS = {
  'b', 'body', 'br', 'circle', 'colgroup', 'dd', 'details', 'div', 'dl', 'dt',
  'figcaption', 'figure', 'g', 'h1', 'h2', 'h3', 'head', 'html', 'i', 'line',
  'main', 'meta', 'p', 'polyline', 'pre', 'rect', 'section', 'small', 'span',
  'style', 'summary', 'svg', 'table', 'tbody', 'td', 'text', 'th', 'thead',
  'title', 'tr',
}  # fmt: skip
ATTRIBUTES = {
  'aria-label', 'charset', 'class', 'colspan', 'content', 'cx', 'cy',
  'fill-opacity', 'font-size', 'height', 'id', 'lang', 'name', 'points', 'r',
  'role', 'rx', 'span', 'style', 'text-anchor', 'viewbox', 'width', 'x', 'x1',
  'x2', 'y', 'y1', 'y2',
}  # fmt: skip


class _Page(html.parser.HTMLParser):
  """Collects elements, attributes and text."""

  def __init__(self):
    super().__init__()
    self.tags, self.names, self.values, self.text = set(), set(), [], ''

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    self.names |= {name for name, _ in attrs}
    self.values += [str(value) for _, value in attrs]

  def handle_data(self, data):
    self.text += data

  def handle_comment(self, data):
    raise AssertionError(f'comment {data!r}')


@pytest.fixture
def hostile():
  """Returns strings that try to leave every place, each with its number."""
  numbers = itertools.count(1)

  def make():
    found = f'</style></title>\'"><script>alert({next(numbers)})</script>'
    return found + '<!--<svg onload=a(1)>{{ 7*7 }}&lt;'

  return make


def _full_run(text, strategy):
  """Returns a run with every section, and its own strings by their place."""
  run = report_test.make_run(strategy)
  if not run['nights']:
    other = report_test.make_run('sleep')
    run |= {key: other[key] for key in ('nights', 'ledger', 'samples')}
  run['status'] = text()
  own = {'strategy': strategy, 'status': run['status']}
  run['days'] = [text(), text()]
  own |= {f'day {n}': name[-17:] for n, name in enumerate(run['days'])}
  for night in run['nights']:
    night['experience'] = night['night']
    teacher = own.setdefault('teacher', text())
    night['divergence'] = [
      {'update': n, 'loss': 0.1, teacher: 0.5 / n} for n in (10, 20)
    ]
    night['divergence_at_0'] = {teacher: 1.0}
    night['imitation'] = [{'update': 10, 'reward': 0.2}]
  run['nights'].append(report_test.make_night(3, accepted=False))
  own['reason'] = run['nights'][-1]['reason'] = text()
  run['nights'][-1]['divergence_at_0'] = {}
  for place, sample in enumerate(run['samples']):
    sample |= {'teacher': teacher, 'prompt': text(), 'text': text()}
    own |= {f'sample {place} {k}': sample[k] for k in ('prompt', 'text')}
  dream = report_test.make_dream(1, text(), 0.5)
  dream['about'] = text()
  dream['texts'][0] |= {'prompt': text(), 'text': text(), 'expert': text()}
  own |= {'kept': dream['kept'], 'about': dream['about']}
  own |= {f'dream {k}': dream['texts'][0][k]
          for k in ('prompt', 'text', 'expert')}  # fmt: skip
  run['dreams'] = [dream]
  last = run['evaluations'][-1]
  gate = {'gate': [0.5], 'adds': [0.1]}
  last['gates'] = {'2': {'slots': [0], 'pretrain': gate}}
  return run, own


@pytest.mark.parametrize('unfinished', [False, True])
def test_no_string_becomes_markup(tmp_path, hostile, unfinished):
  runs, places = [], {}
  for number, strategy in enumerate((hostile(), 'sleep')):
    run, own = _full_run(hostile, strategy)
    if not unfinished:
      run['status'] = 'finished'
      del own['status']
    runs.append(run)
    places |= {f'run {number} {key}': value for key, value in own.items()}
  day = dict.fromkeys(
    ('rows', 'skipped', 'windows', 'steps', 'batch_size', 'passes', 'unread',
     'prompts', 'kept', 'too_wide', 'rehearsals'), 1,
  ) | {'name': hostile()}  # fmt: skip
  about = {hostile(): hostile(), 'inner': {hostile(): hostile()}}
  config = {hostile().replace('"', ''): hostile().replace('"', '')}
  study = hostile()
  report.write(
    runs, tmp_path / 'report.html', study=study, config=config, about=about,
    days=[day],
  )  # fmt: skip
  markup = (tmp_path / 'report.html').read_text(encoding='utf-8')
  page = _Page()
  page.feed(markup)
  page.close()
  assert page.tags <= TAGS
  assert page.names <= ATTRIBUTES
  assert '<script' not in markup and '<!--' not in markup
  assert not any('alert' in value for value in page.values)
  places |= {'study': study, 'day': day['name']}
  places |= {f'about {k}': k for k in about}
  places |= {f'about value {k}': v for k, v in about.items() if k != 'inner'}
  (inner,) = about['inner'].items()
  (setting,) = config.items()
  places |= dict(zip('abcd', (*inner, *setting), strict=True))
  missing = [place for place, text in places.items() if text not in page.text]
  assert not missing  # What is not shown is not tested.
