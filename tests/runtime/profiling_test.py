"""A trace holds the calls that were asked for, not the one that compiles."""

import gzip
import json

import jax
import jax.numpy as jnp

from sleep_jax.runtime import profiling


def _traced(folder):
  """How many calls of ours a trace holds."""
  (file,) = folder.glob('plugins/profile/*/*.trace.json.gz')
  events = json.loads(gzip.decompress(file.read_bytes()))['traceEvents']
  return sum(e.get('name') == 'call of ours' for e in events)


def test_a_trace_holds_the_calls_after_the_first(tmp_path):
  profile = profiling.Profile(str(tmp_path), 2)

  def call():
    with jax.profiler.TraceAnnotation('call of ours'):
      jnp.ones(()).block_until_ready()

  for _ in range(5):
    call()
    profile.record_call('wake')
  assert _traced(tmp_path / 'wake') == 2
  # Another kind ends a trace that is under way, and has its own.
  for kind in ('seed', 'merge', 'merge'):
    call()
    profile.record_call(kind)
  profile.close()
  assert _traced(tmp_path / 'seed') == 1 and _traced(tmp_path / 'merge') == 1


def test_nothing_is_traced_unasked(tmp_path):
  profile = profiling.Profile(str(tmp_path), 0)
  profile.record_call('wake')
  profile.close()
  assert not list(tmp_path.iterdir())


def test_only_compiling_is_counted():
  twice = jax.jit(lambda x: jnp.tanh(x @ x) * 3.25)
  with profiling.CompileTimer() as first:
    twice(jnp.ones((8, 8))).block_until_ready()
  with profiling.CompileTimer() as second:
    twice(jnp.ones((8, 8))).block_until_ready()
  assert first.seconds > 0 and second.seconds == 0
