"""JAX at its strictest, on eight pretend devices, for every test.

The flags must be set before JAX starts, hence here and not in a fixture.
Programs that several tests (or two worker processes) compile alike are compiled
once: they meet in a cache that lives and dies with the session.
"""

import gc
import os

# Tests compile much and run little: half the time of the whole suite. What they
# start inherits it.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
os.environ['XLA_FLAGS'] = ' '.join([
  os.environ.get('XLA_FLAGS', ''), '--xla_force_host_platform_device_count=8',
  '--xla_cpu_use_fusion_emitters=false',  # A third less to compile.
  '--xla_cpu_parallel_codegen_split_count=1',  # A fifth less.
])  # fmt: skip
# A device that waits for others holds a thread, and may have several: with as
# few threads as devices all may wait for one that has none.
os.environ['NPROC'] = '32'

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_debug_key_reuse', True)
# What is compiled stays, and would be looked through again and again.
gc.set_threshold(50_000, 20, 100)

# Minutes each, lest one worker waits for another's last file; and before them
# traces, in which every program stands that was compiled before.
FIRST = (
  'profiling_test', 'processes_test', 'dreaming_test', 'consolidate_test',
  'lifecycle_test', 'trials_test', 'merge_test', 'study_test',
  'conversation_test',
)  # fmt: skip


def pytest_collection_modifyitems(items):
  order = {name: place for place, name in enumerate(FIRST)}
  items.sort(key=lambda item: order.get(item.path.stem, len(FIRST)))


@pytest.fixture(scope='session', autouse=True)
def compile_cache(tmp_path_factory):
  """One folder for all workers of a session."""
  folder = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    folder = folder.parent
  for name, value in (
    ('jax_compilation_cache_dir', str(folder / 'compiled')),
    ('jax_persistent_cache_min_compile_time_secs', 0.1),
  ):
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)
  return folder
