"""Programs that several studies of one process share."""

import types

import pytest

from sleep_jax.runs import run_factory
from tests import tiny_study


class _Programs:
  """Remembers the rate that it was made with, and compiles nothing."""

  def __init__(self, *args, learning_rate, **settings):
    self.learning_rate = learning_rate


@pytest.fixture
def factory(monkeypatch):
  monkeypatch.setattr(run_factory.programs_lib, 'Programs', _Programs)
  monkeypatch.setattr(run_factory.judges, 'make', lambda *args: None)
  config = tiny_study.config()
  return run_factory.RunFactory(
    config, config.to_dict(), placement=None, progress=None, stop=None,
    profile=None, folder=None, own_folder=None, programs={},
  )  # fmt: skip


def test_programs_are_shared_by_runs_of_one_rate_only(factory):
  strategy = types.SimpleNamespace(name='sft', check=lambda stream: None)
  stream = types.SimpleNamespace(
    tokenizer=types.SimpleNamespace(bos=0, eos=1), templates=(),
    dream_templates=(), tasks={},
  )  # fmt: skip
  made = types.SimpleNamespace(seed=0, stream=stream, model=None)
  # A check before the run knows no rate; its programs must not be the run's.
  checked = factory.programs(strategy, made)
  slow, fast = (factory.programs(strategy, made, rate) for rate in (1e-5, 1e-3))
  assert checked.learning_rate is None
  assert (slow.learning_rate, fast.learning_rate) == (1e-5, 1e-3)
  assert factory.programs(strategy, made, 1e-5) is slow
