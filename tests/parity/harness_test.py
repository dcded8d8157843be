"""lm-evaluation-harness: the scores and texts of its `hf` model."""

import pytest

pytest.importorskip('lm_eval')
pytest.importorskip('accelerate')
pytest.importorskip('transformers')

from tests.parity import harness  # noqa: E402


@pytest.fixture(scope='module')
def homes(tmp_path_factory):
  made = {}
  for name in harness.TOKENIZERS:
    made[name] = tmp_path_factory.mktemp('model') / 'x'
    harness.write_model(made[name], name)
  return made


@pytest.mark.parametrize('model, options', harness.CASES)
def test_every_request_has_the_harness_s_result(homes, model, options):
  rows = list(harness.compare(homes[model], model, options))
  wrong = [row for row in rows if not row.equal]
  assert not wrong
  kinds = {row.kind for row in rows if not isinstance(row.ours, Exception)}
  assert len(kinds) == 3


@pytest.mark.parametrize('model, chat', [('no BOS', True), ('BOS', False)])
def test_tasks_have_the_same_requests_and_scores(
  homes, tmp_path, monkeypatch, model, chat
):
  monkeypatch.setenv('HF_DATASETS_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setenv('HF_DATASETS_OFFLINE', '1')
  ours, theirs = (
    harness.evaluate(homes[model], tmp_path, chat=chat, ours=which)
    for which in (True, False)
  )
  assert ours['chat_template'] == theirs['chat_template']
  assert bool(ours['chat_template']) == chat
  for name, expected in theirs['samples'].items():
    found = ours['samples'][name]
    assert [args for args, _ in found] == [args for args, _ in expected]
    if name == 'answers':
      assert found == expected
  for task, metrics in theirs['metrics'].items():
    for name, value in metrics.items():
      if isinstance(value, float):
        assert ours['metrics'][task][name] == pytest.approx(value, rel=1e-3)
