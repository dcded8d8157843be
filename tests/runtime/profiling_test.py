"""A trace holds the requested calls, without the one that compiles."""

import gzip
import json

import jax
import jax.numpy as jnp

from sleep_jax.runtime import profiling


def _num_traced(folder):
  """Number of annotated calls in a trace."""
  (file,) = folder.glob('plugins/profile/*/*.trace.json.gz')
  events = json.loads(gzip.decompress(file.read_bytes()))['traceEvents']
  return sum(e.get('name') == 'annotated call' for e in events)


def test_a_trace_holds_the_calls_after_the_first(tmp_path):
  profile = profiling.Profile(str(tmp_path), 2)

  def call():
    with jax.profiler.TraceAnnotation('annotated call'):
      jnp.ones(()).block_until_ready()

  for _ in range(5):
    call()
    profile.record_call('wake')
  assert _num_traced(tmp_path / 'wake') == 2
  # A call of another kind ends the current trace; each kind has its own.
  for kind in ('seed', 'merge', 'merge'):
    call()
    profile.record_call(kind)
  profile.close()
  assert (
    _num_traced(tmp_path / 'seed') == 1 and _num_traced(tmp_path / 'merge') == 1
  )


def test_nothing_is_traced_by_default(tmp_path):
  profile = profiling.Profile(str(tmp_path), 0)
  profile.record_call('wake')
  profile.close()
  assert not list(tmp_path.iterdir())


def test_compile_timer_counts_compiling_only():
  function = jax.jit(lambda x: jnp.tanh(x @ x) * 3.25)
  with profiling.CompileTimer() as first:
    function(jnp.ones((8, 8))).block_until_ready()
  with profiling.CompileTimer() as second:
    function(jnp.ones((8, 8))).block_until_ready()
  assert first.seconds > 0 and second.seconds == 0
