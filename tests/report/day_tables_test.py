"""The report says how much of each day was read."""

from sleep_jax.report import day_tables, html, report

DAY = {
  'name': 'day_1 <b>', 'rows': 10_000, 'skipped': 2, 'windows': 12_000,
  'steps': 40, 'batch_size': 4, 'in_passes': False, 'kept': 64,
  'rehearsals': 96, 'too_wide': 7, 'passes': 160 / 12_000, 'unread': 11_840,
  'prompts': 160,
}  # fmt: skip


def _texts(row):
  return [x.text if isinstance(x, html.Cell) else x for x in row]


def test_a_day_has_a_row_of_what_is_read_and_what_its_nights_keep():
  (row,) = day_tables.days([DAY]).rows
  assert _texts(row) == [
    'day_1 <b>', '10,000', '2', '12,000', '40', '4', '0.0133', '11,840', '160',
    '64', '7', '96',
  ]  # fmt: skip
  # Rows that are never read are marked, and prompts that no night rehearses.
  assert row[7].kind == row[10].kind == 'best'
  (row,) = day_tables.days([DAY | dict(kept=None, unread=0, too_wide=0)]).rows
  assert _texts(row)[7:] == ['0', '160', '–', '0', '–'] and row[7] == '0'


def test_the_page_has_the_section_if_there_are_days(tmp_path):
  title = 'How much of each day is read'
  for days in ((), (DAY,)):
    path = tmp_path / 'report.html'
    report.write([], path, study='mine', config={}, about={}, days=days)
    page = path.read_text(encoding='utf-8')
    assert (title in page) == bool(days)
    assert ('11,840' in page) == bool(days)
    assert '<b>' not in page
