"""The report tells what was measured, to anyone, at any moment of a run."""

import html.parser
import re

import pytest

from sleep_jax.evaluate import retention
from sleep_jax.report import html as html_lib
from sleep_jax.report import plots, report, svg

VOID = ('meta', 'br')
EVIL = '<script>alert("&")</script>'


class Balance(html.parser.HTMLParser):
  """Keeps all text, and fails where a tag is closed that is not open."""

  def __init__(self):
    super().__init__()
    self.open, self.text, self.tags = [], '', set()

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.add(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data + ' '


def evaluation(cycle, moment, prior, num=2):
  return {
    'cycle': cycle,
    'moment': moment,
    'experience': cycle,
    'step': 40 * cycle,
    'scores': {'pretrain': prior, **{str(j + 1): 0.5 for j in range(num)}},
    'template_scores': {},
    'held_out_loss': 2.0,
    'kl_initial': None,
  }


def run(strategy='sleep', seed=0, nights=2, status='finished', num=2):
  sleeps = strategy == 'sleep'
  evaluations = [evaluation(0, 'initial', 1.0, num)]
  for cycle in range(1, nights + 1):
    evaluations.append(evaluation(cycle, 'evening', 0.6, num))
    if sleeps:
      evaluations.append(evaluation(cycle, 'morning', 0.9, num))
  made = range(1, nights + 1) if sleeps else ()
  return {
    'strategy': strategy,
    'seed': seed,
    'evaluations': evaluations,
    'nights': [night(n) for n in made],
    'ledger': [entry(n, 'activated', n - 1) for n in made],
    'summary': retention.summarize(evaluations, {'seconds': 60.0}),
    'samples': [
      {'night': n, 'teacher': 'anchor', 'prompt': EVIL, 'text': EVIL + ' yes'}
      for n in made
    ],
    'status': status,
  }


def night(number, accepted=True):
  return {
    'cycle': number,
    'night': number,
    'step': 40 * number,
    'sender': 1,
    'receiver': 2,
    'slot': number - 1,
    'accepted': accepted,
    'reason': None if accepted else 'old probes fell',
    'divergence': [
      {'update': u, 'loss': 0.1, 'anchor': 0.1 / u, 'next': None}
      for u in (10, 20)
    ],
    'divergence_at_0': {'anchor': 0.0, 'next': 1.5},
    'seconds': 3.0,
    'guard': None if accepted else {'before': 0.98, 'after': 0.9},
  }


def entry(number, event, slot, level=2):
  return {
    'night': number,
    'step': 40 * number,
    'level': level,
    'slot': slot,
    'event': event,
    'from': level - 1,
  }


def dream(number, kept, gain):
  text = {'prompt': EVIL, 'text': EVIL, 'expert': 4, 'whole': True}
  return {
    'night': 1, 'round': 1, 'dream': number, 'document': 0, 'about': EVIL,
    'texts': [text], 'importance': 0.5, 'gain': gain, 'kept': kept,
  }  # fmt: skip


@pytest.fixture
def draw(tmp_path):
  """Writes a report and returns its markup and its text, tags checked."""

  def draw(runs, study='facts', config=None, about=None):
    path = tmp_path / 'report.html'
    report.write(
      runs, path, study=study, config=config or {}, about=about or {}
    )
    markup = path.read_text(encoding='utf-8')
    parsed = Balance()
    parsed.feed(markup)
    assert not parsed.open
    assert [p.name for p in tmp_path.iterdir()] == ['report.html']
    return markup, parsed.text

  return draw


class TestPage:
  def test_it_needs_nothing_but_itself(self, draw):
    markup, _ = draw([run(), run('sft')])
    assert not re.search(r'(src|href)=|url\(|@import|http', markup)
    assert '<script' not in markup

  def test_text_from_outside_is_never_markup(self, draw):
    evil = run(EVIL, status=EVIL)
    markup, text = draw(
      [run(), evil], study=EVIL, config={'a': EVIL}, about={EVIL: EVIL}
    )
    assert '<script' not in markup
    assert EVIL in text

  def test_it_holds_every_part(self, draw):
    _, text = draw(
      [run(), run('sft')],
      config={'sleep': {'rank': 32}},
      about={'versions': {'jax': '1.2'}},
    )
    for part in ('0.900', 'Retention', 'night 1', 'Ledger', 'yes', 'Cost'):
      assert part in text
    assert '"rank": 32' in text
    assert 'versions jax' in text

  def test_it_can_be_drawn_before_anything_has_happened(self, draw):
    draw([])
    _, text = draw([run(nights=0, status='initial')])
    assert 'initial' in text
    assert 'Retention' not in text

  def test_it_can_be_drawn_without_probes(self, draw):
    blind = run()
    for record in blind['evaluations']:
      record['scores'] = {}
    blind['summary'] = retention.summarize(blind['evaluations'])
    _, text = draw([blind])
    assert 'Held-out loss' in text

  def test_forty_nights_fit(self, draw):
    markup, text = draw([run(nights=40, num=40)])
    assert 'night 40' in text
    assert len(markup) < 1_000_000

  def test_what_is_earned_by_imitation_is_shown_where_there_is_any(self, draw):
    imitating = run()
    assert 'by imitation' not in draw([imitating])[1]
    imitating['nights'][0]['imitation'] = [
      {'update': 10, 'reward': 0.25, 'length_wanted': 3.0},
      {'update': 20, 'reward': 0.75, 'length_wanted': 3.5},
    ]
    _, text = draw([imitating])
    for word in ('by imitation', 'length, wanted', '0.25 → 0.75', '3 → 3.5'):
      assert word in text

  def test_dreams_that_were_tried_are_shown_the_best_first(self, draw):
    dreaming = run()
    assert 'What it dreams' not in draw([dreaming])[1]
    numbers = dict(rewarded=[1, 2], gain=[None, 0.25], entropy=[0.5, 1.5])
    dreaming['nights'][0]['dreams'] = numbers
    dreaming['ledger'].append(entry(1, 'dreamt', 0))
    dreaming['dreams'] = [
      dream(1, 'no gain', -0.5), dream(2, 'not tried', None),
      dream(3, 'rewarded', 0.25),
    ]  # fmt: skip
    markup, text = draw([dreaming])
    assert 'night 1: 3 dreams, 2 tried, 1 rewarded' in text
    assert 'dream 2' not in text and EVIL not in markup
    assert text.index('dream 3: rewarded') < text.index('dream 1: no gain')
    assert 'expert 4 open' in text and 'Rewarded dreams' in text
    assert 'class="bar gone"' not in markup  # Dreaming empties no expert.

  def test_of_many_dreams_the_best_and_the_worst_are_shown(self, draw):
    dreaming = run()
    dreaming['dreams'] = [dream(k, 'rewarded', k / 100) for k in range(1, 31)]
    _, text = draw([dreaming])
    assert '30 dreams, 30 tried, 30 rewarded' in text
    shown = [k for k in range(1, 31) if f'dream {k}: rewarded' in text]
    assert shown == [1, 2, *range(25, 31)]

  def test_a_discarded_night_says_so_and_why(self, draw):
    discarded = run()
    discarded['nights'].append(night(3, accepted=False))
    discarded['ledger'].append(entry(3, 'discarded', 2))
    _, text = draw([discarded])
    assert 'discarded' in text
    assert 'old probes fell before 0.98, after 0.9' in text

  def test_seeds_with_the_same_ledger_share_a_figure(self, draw):
    _, text = draw([run(seed=0), run(seed=1)])
    assert 'seeds 0, 1' in text

  def test_only_finished_seeds_are_averaged(self, draw):
    _, text = draw([run(seed=0), run(seed=1, nights=1, status='cycle 1')])
    assert '1 of 2' in text

  def test_an_unfinished_strategy_says_how_far_it_is(self, draw):
    _, text = draw([run(status='cycle 2 of 10')])
    assert 'cycle 2 of 10' in text

  def test_joint_has_a_level_and_no_curve(self, draw):
    joint = run('joint_wake')
    joint['evaluations'] = [
      evaluation(0, 'initial', 1.0),
      {**evaluation(1, 'evening', 0.97), 'experience': 2},
    ]
    joint['summary'] = retention.summarize(joint['evaluations'])
    markup, _ = draw([run(), joint])
    assert 'class="bound"' in markup
    assert 'joint_wake 0.97' in markup


class TestTable:
  def test_it_fits_a_terminal_with_the_widest_numbers(self):
    runs = [run(name, s) for name in ('sleep', 'hope') for s in (0, 1)]
    for one in runs:
      one['summary'] |= {k: -0.999 + one['seed'] / 10 for k in ('bwt', 'acc')}
      one['summary']['seconds'] = 360_000.0
    lines = report.table(runs).splitlines()
    assert max(map(len, lines)) <= 100

  def test_each_strategy_is_a_row_known_ones_first_and_always_in_order(self):
    names = ('joint_wake', 'mine', 'sft', 'sleep')
    rows = report.table([run(name) for name in names]).splitlines()[1:5]
    found = [row.split()[0] for row in rows]
    assert found == ['sleep', 'sft', 'joint_wake', 'mine']

  def test_what_is_unknown_is_a_dash_and_what_is_unfinished_a_star(self):
    row = report.table([run(nights=0, status='day 1')]).splitlines()[1]
    assert row.split()[:4] == ['sleep*', '1', '1.000', '-']


class TestPlots:
  def test_every_strategy_has_a_colour_of_its_own(self):
    names = [*html_lib.STRATEGIES, 'mine', 'yours']
    colours = html_lib.colours(names, html_lib.STRATEGIES)
    assert len(set(colours.values())) == len(names)

  def test_ticks_are_round_and_enclose_the_numbers(self):
    assert svg.ticks(0, 1, 4) == [0, 0.25, 0.5, 0.75, 1]
    low, *_, high = svg.ticks(-0.013, 0.0021, 4)
    assert low <= -0.013 < 0.0021 <= high

  def test_a_divergence_of_zero_is_on_the_floor_of_the_scale(self):
    panel = {'title': '', 'levels': '', 'note': ''}
    lines = [('anchor', [(0, 0.0), (10, 1.0)])]
    assert '<polyline' in plots.nights(
      [{**panel, 'lines': lines}], {'anchor': 't0'}
    )

  def test_an_emptied_expert_fades_and_can_be_filled_again(self):
    bars = [
      {'row': (2, 0), 'start': 1, 'stop': 3},
      {'row': (2, 0), 'start': 4, 'stop': None},
    ]
    drawing = plots.ledger(bars, [], 5)
    assert drawing.count('class="bar gone"') == 1
    assert drawing.count('class="bar"') == 1

  def test_numbers_read_well(self):
    assert svg.signed(-0.0001, 3) == '0.000'
    assert svg.signed(-0.25, 2) == svg.MINUS + '0.25'
    assert svg.quantity(1_240_000) == '1.24 M'
    assert svg.quantity(950) == '950'
