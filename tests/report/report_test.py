"""The report page and the printed table show the results of a study."""

import html.parser
import re

import pytest

from sleep_jax.evaluate import retention
from sleep_jax.report import html as html_lib
from sleep_jax.report import plots, report, svg, text_format

VOID = ('meta', 'br')  # Elements without an end tag.
HOSTILE = '<script>alert("&")</script>'


class Balance(html.parser.HTMLParser):
  """Collects all text and fails if a tag is closed that is not open."""

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


def make_evaluation(cycle, moment, prior, num=2):
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


def make_run(strategy='sleep', seed=0, nights=2, status='finished', num=2):
  sleeps = strategy == 'sleep'
  evaluations = [make_evaluation(0, 'initial', 1.0, num)]
  for cycle in range(1, nights + 1):
    evaluations.append(make_evaluation(cycle, 'evening', 0.6, num))
    if sleeps:
      evaluations.append(make_evaluation(cycle, 'morning', 0.9, num))
  numbers = range(1, nights + 1) if sleeps else ()
  return {
    'strategy': strategy,
    'seed': seed,
    'evaluations': evaluations,
    'nights': [make_night(n) for n in numbers],
    'ledger': [make_entry(n, 'activated', n - 1) for n in numbers],
    'summary': retention.summarize(evaluations, {'seconds': 60.0}),
    'samples': [
      {
        'night': n,
        'teacher': 'anchor',
        'prompt': HOSTILE,
        'text': HOSTILE + ' yes',
      }
      for n in numbers
    ],
    'status': status,
  }


def make_night(number, accepted=True):
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
    'cpu_seconds': 10.0 * number,
    'guard': None if accepted else {'before': 0.98, 'after': 0.9},
  }


def make_entry(number, event, slot, level=2):
  return {
    'night': number,
    'step': 40 * number,
    'level': level,
    'slot': slot,
    'event': event,
    'from': level - 1,
  }


def make_dream(number, kept, gain):
  text = {'prompt': HOSTILE, 'text': HOSTILE, 'expert': 4, 'whole': True}
  return {
    'night': 1, 'round': 1, 'dream': number, 'document': 0, 'about': HOSTILE,
    'texts': [text], 'importance': 0.5, 'gain': gain, 'kept': kept,
  }  # fmt: skip


@pytest.fixture
def draw(tmp_path):
  """Writes a report, checks its tags and returns its markup and text."""

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
  def test_the_page_refers_to_no_other_file(self, draw):
    markup, _ = draw([make_run(), make_run('sft')])
    assert not re.search(r'(src|href)=|url\(|@import|http', markup)
    assert '<script' not in markup

  def test_text_from_a_run_never_becomes_markup(self, draw):
    hostile = make_run(HOSTILE, status=HOSTILE)
    markup, text = draw(
      [make_run(), hostile],
      study=HOSTILE,
      config={'a': HOSTILE},
      about={HOSTILE: HOSTILE},
    )
    assert '<script' not in markup
    assert HOSTILE in text

  def test_the_page_has_every_section(self, draw):
    _, text = draw(
      [make_run(), make_run('sft')],
      config={'sleep': {'rank': 32}},
      about={'versions': {'jax': '1.2'}},
    )
    for part in (
      '0.900',
      'Accuracy over cycles',
      'night 1',
      'Experts:',
      'yes',
      'Cost',
    ):
      assert part in text
    assert '"rank": 32' in text
    assert 'versions jax' in text

  def test_the_page_can_be_drawn_before_the_first_cycle(self, draw):
    draw([])
    _, text = draw([make_run(nights=0, status='initial')])
    assert 'initial' in text
    assert 'Accuracy over cycles' not in text

  def test_the_page_can_be_drawn_without_probes(self, draw):
    unprobed = make_run()
    for record in unprobed['evaluations']:
      record['scores'] = {}
    unprobed['summary'] = retention.summarize(unprobed['evaluations'])
    _, text = draw([unprobed])
    assert 'Held-out loss' in text

  def test_days_are_named_by_their_files(self, draw):
    run = make_run()
    run['days'] = ['day_1.jsonl', HOSTILE]
    for night in run['nights']:
      night['experience'] = night['night']
    last = run['evaluations'][-1]
    sets = {'1': {'gate': [0.5], 'adds': [0.1]}}
    last['gates'] = {'2': {'slots': [0], **sets}}
    markup, text = draw([run])
    assert '<script' not in markup
    for part in (
      '1 day_1.jsonl',  # A row of the matrix.
      'experience 1 (day_1.jsonl)',  # A column of the gates.
      'sleep, seed 0, night 2 (<script>',  # Samples.
    ):
      assert part in text, part
    cells = re.findall(r'<td>day_1.jsonl</td>', markup)
    assert len(cells) == 1  # The table of nights.
    # Without files, numbers are enough.
    run['days'] = ['day 1', 'day 2']
    assert '(day 1)' not in draw([run])[1]
    # Seeds that learned other days share no name.
    other = make_run(seed=1) | {'days': ['x.jsonl', 'y.jsonl']}
    assert '1 day_1.jsonl' not in draw([run, other])[1]

  def test_forty_nights_fit_into_a_megabyte(self, draw):
    markup, text = draw([make_run(nights=40, num=40)])
    assert 'night 40' in text
    assert len(markup) < 1_000_000

  def test_rewards_for_imitation_are_shown_if_there_are_any(self, draw):
    imitating = make_run()
    assert 'Rewards for imitation' not in draw([imitating])[1]
    imitating['nights'][0]['imitation'] = [
      {'update': 10, 'reward': 0.25, 'length_wanted': 3.0},
      {'update': 20, 'reward': 0.75, 'length_wanted': 3.5},
    ]
    _, text = draw([imitating])
    for word in (
      'Rewards for imitation',
      'length, teacher',
      '0.25 → 0.75',
      '3 → 3.5',
    ):
      assert word in text

  def test_dreams_that_were_tried_are_shown_best_first(self, draw):
    dreaming = make_run()
    assert 'Dreams' not in draw([dreaming])[1]
    numbers = dict(rewarded=[1, 2], gain=[None, 0.25], entropy=[0.5, 1.5])
    dreaming['nights'][0]['dreams'] = numbers
    dreaming['ledger'].append(make_entry(1, 'dreamt', 0))
    dreaming['dreams'] = [
      make_dream(1, 'no gain', -0.5), make_dream(2, 'not tried', None),
      make_dream(3, 'rewarded', 0.25),
    ]  # fmt: skip
    markup, text = draw([dreaming])
    assert 'night 1: 3 dreams, 2 tried, 1 rewarded' in text
    assert 'dream 2' not in text and HOSTILE not in markup
    assert text.index('dream 3: rewarded') < text.index('dream 1: no gain')
    assert 'expert 4 open' in text and 'Rewarded dreams' in text
    assert 'class="bar reset"' not in markup  # Dreaming resets no expert.

  def test_the_best_and_the_worst_of_many_dreams_are_shown(self, draw):
    dreaming = make_run()
    dreaming['dreams'] = [
      make_dream(k, 'rewarded', k / 100) for k in range(1, 31)
    ]
    _, text = draw([dreaming])
    assert '30 dreams, 30 tried, 30 rewarded' in text
    shown = [k for k in range(1, 31) if f'dream {k}: rewarded' in text]
    assert shown == [1, 2, *range(25, 31)]

  def test_a_discarded_night_is_shown_with_its_reason(self, draw):
    discarded = make_run()
    discarded['nights'].append(make_night(3, accepted=False))
    discarded['ledger'].append(make_entry(3, 'discarded', 2))
    _, text = draw([discarded])
    assert 'discarded' in text
    assert 'old probes fell; guard: before 0.98, after 0.9' in text

  def test_seeds_with_the_same_expert_history_share_a_figure(self, draw):
    _, text = draw([make_run(seed=0), make_run(seed=1)])
    assert 'seeds 0, 1' in text

  def test_only_finished_seeds_are_averaged(self, draw):
    _, text = draw(
      [make_run(seed=0), make_run(seed=1, nights=1, status='cycle 1')]
    )
    assert '1 of 2' in text

  def test_an_unfinished_strategy_is_shown_with_its_status(self, draw):
    _, text = draw([make_run(status='cycle 2 of 10')])
    assert 'cycle 2 of 10' in text

  def test_joint_is_drawn_as_a_reference_line(self, draw):
    joint = make_run('joint_wake')
    joint['evaluations'] = [
      make_evaluation(0, 'initial', 1.0),
      {**make_evaluation(1, 'evening', 0.97), 'experience': 2},
    ]
    joint['summary'] = retention.summarize(joint['evaluations'])
    markup, _ = draw([make_run(), joint])
    assert 'class="reference"' in markup
    assert 'joint_wake 0.97' in markup


def table_rows(runs):
  """Returns the words of each row of the printed table, of both lines."""
  lines = report.table(runs).split('\n\n')[0].splitlines()
  rule = next(i for i, line in enumerate(lines) if '─' in line)
  firsts, seconds = lines[rule + 1 :: 2], lines[rule + 2 :: 2]
  return [f'{a} {b}'.split() for a, b in zip(firsts, seconds, strict=True)]


class TestTable:
  def test_it_fits_100_columns_with_the_widest_numbers(self):
    names = ('sleep', 'joint_night')
    runs = [make_run(name, s) for name in names for s in (0, 1)]
    for run in runs:
      run['summary'] |= {
        key: -0.999 + run['seed'] / 10 for key, value in run['summary'].items()
      }
      run['summary']['seconds'] = 360_000.0
    text = report.table(runs)
    assert max(map(len, text.splitlines())) <= 100
    assert '…' not in text and '6000.0' in text
    assert '-0.949' in text and '± 0.635' in text

  def test_known_strategies_come_first_in_a_fixed_order(self):
    names = ('joint_wake', 'mine', 'sft', 'sleep')
    rows = table_rows([make_run(name) for name in names])
    assert [row[0] for row in rows] == ['sleep', 'sft', 'joint_wake', 'mine']

  def test_unknown_numbers_are_dashes_and_finished_seeds_are_counted(self):
    runs = [make_run(nights=0, status='day 1')]
    [row] = table_rows(runs)
    assert row[:3] == ['sleep', '1.000', '-'] and row[-3:] == ['0', 'of', '1']
    assert 'Strategies without a finished seed' in report.table(runs)
    assert 'Strategies without' not in report.table([make_run()])

  def test_the_best_value_of_a_column_is_marked_in_its_direction(self):
    good, bad = make_run('sleep'), make_run('sft')
    good['summary'] |= {'acc': 0.75, 'seconds': 120.0}
    bad['summary'] |= {'acc': 0.25, 'seconds': 60.0}
    first, second = table_rows([good, bad])
    assert '0.750*' in first and '0.250' in second
    assert '2.0' in first and '1.0' in second  # The fastest is not the best.
    assert '1.000' in first and '1.000' in second  # Equal: none is best.

  def test_runs_without_probes_are_shown_by_their_losses(self):
    runs = [make_run('sleep', seed, num=0) for seed in (0, 1)]
    runs.append(make_run('sft', num=0))
    for run in runs:
      for number, evaluation in enumerate(run['evaluations']):
        loss = 3.0 + run['seed'] - number / 4
        evaluation |= {'scores': {}, 'held_out_loss': loss, 'kl_initial': 0.125}
    sleep, sft = table_rows(runs)
    # Means over the seeds; five evaluations of sleep, three of sft.
    assert sleep[:5] == ['sleep', '3.500', '2.500', '0.125', '1.0']
    assert sft[:5] == ['sft', '3.000', '2.500', '0.125', '1.0']
    text = report.table(runs)
    assert '--config.data.settings.probes=FILE' in text
    assert 'accuracy:' not in text
    # Two or three rows leave none to hold out.
    for run in runs:
      for evaluation in run['evaluations']:
        evaluation |= {'held_out_loss': None, 'kl_initial': None}
    assert table_rows(runs)[1][:5] == ['sft', '-', '-', '-', '1.0']
    # One probe of one run is enough for the accuracies.
    runs[0]['evaluations'][0]['scores'] = {'pretrain': 0.5}
    assert 'final accuracy:' in report.table(runs)

  def test_text_without_a_terminal_has_no_control_codes(self):
    assert '\x1b' not in report.table([make_run(), make_run('sft')])


class TestPlots:
  def test_each_strategy_has_its_own_colour(self):
    names = [*html_lib.STRATEGIES, 'mine', 'yours']
    colours = html_lib.colours(names, html_lib.STRATEGIES)
    assert len(set(colours.values())) == len(names)

  def test_ticks_are_round_and_enclose_the_values(self):
    assert svg.ticks(0, 1, 4) == [0, 0.25, 0.5, 0.75, 1]
    low, *_, high = svg.ticks(-0.013, 0.0021, 4)
    assert low <= -0.013 < 0.0021 <= high

  def test_a_divergence_of_zero_is_drawn_at_the_bottom_of_the_scale(self):
    panel = {'title': '', 'levels': '', 'note': ''}
    lines = [('anchor', [(0, 0.0), (10, 1.0)])]
    assert '<polyline' in plots.nights(
      [{**panel, 'lines': lines}], {'anchor': 't0'}
    )

  def test_a_reset_expert_is_pale_and_can_be_trained_again(self):
    bars = [
      {'row': (2, 0), 'start': 1, 'stop': 3},
      {'row': (2, 0), 'start': 4, 'stop': None},
    ]
    drawing = plots.expert_history(bars, [], 5)
    assert drawing.count('class="bar reset"') == 1
    assert drawing.count('class="bar"') == 1

  def test_numbers_are_formatted_for_readers(self):
    assert text_format.signed(-0.0001, 3) == '0.000'
    assert text_format.signed(-0.25, 2) == text_format.MINUS + '0.25'
    assert text_format.quantity(1_240_000) == '1.24 M'
    assert text_format.quantity(950) == '950'
