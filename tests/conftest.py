"""Configures JAX for all tests: strict checks, eight simulated CPU devices.

The flags must be set before JAX is imported, so they are not in a fixture. A
compilation cache, kept for the session, is shared by all tests and worker
processes, so that equal programs are compiled once.
"""

import functools
import gc
import os
import types

# Tests compile much and run little: without optimizations the suite takes half
# the time. Processes that tests start inherit the variables.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
os.environ['XLA_FLAGS'] = ' '.join([
  os.environ.get('XLA_FLAGS', ''), '--xla_force_host_platform_device_count=8',
  '--xla_cpu_use_fusion_emitters=false',  # A third less compile time.
  '--xla_cpu_parallel_codegen_split_count=1',  # A fifth less.
])  # fmt: skip
# A device that waits in a collective blocks a thread, and may block several:
# with only as many threads as devices, a collective can deadlock.
os.environ['NPROC'] = '32'

import jax  # noqa: E402
import jinja2  # noqa: E402
import pytest  # noqa: E402

from sleep_jax.report import html  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_debug_key_reuse', True)
# Compiled programs are kept, and frequent collections would scan them again.
gc.set_threshold(50_000, 20, 100)


@pytest.fixture(autouse=True)
def frozen_objects():
  """Lets collections of a test skip what earlier tests left.

  That is several gigabytes of programs. A session collects each time it is
  opened, which took seconds, and most of the time of some files.
  """
  gc.freeze()


# File stems that run first, in this order. These files take minutes; started
# late, they would leave one worker idle. Profiling is first of all, because a
# trace lists every program compiled before it.
FIRST = (
  'profiling_test', 'processes_test', 'self_edit_test',
  'sequence_sharding_test', 'seeding_test', 'sharding_test', 'commands_test',
  'consolidation_test', 'loop_test', 'trials_test', 'expert_merge_test',
  'study_test', 'chat_session_test', 'literal_protocol_test',
  'document_context_test', 'kl_penalty_test', 'erasure_test', 'growth_test',
  'hf_export_test', 'method_test', 'api_test', 'main_test',
  'gradient_accumulation_test', 'hf_start_test', 'ability_study_test',
  'changed_days_study_test', 'grpo_test', 'own_texts_test',
  'seeding_widths_test', 'rehearsal_texts_test', 'real_unit_test',
  'compile_cache_test', 'bank_level_test', 'hf_import_test',
)  # fmt: skip


def pytest_collection_modifyitems(items):
  order = {name: index for index, name in enumerate(FIRST)}
  items.sort(key=lambda item: order.get(item.path.stem, len(FIRST)))


@pytest.fixture(scope='session', autouse=True)
def compile_cache(tmp_path_factory):
  """Sets one compilation cache for all workers of a session."""
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


@pytest.fixture(scope='session', autouse=True)
def compiled_pages(compile_cache):
  """Compiles the templates of the report once: each run of a study needs them.

  That was a sixth of the time of tests with many short runs.
  """
  folder = compile_cache / 'pages'
  folder.mkdir(exist_ok=True)
  cache = jinja2.FileSystemBytecodeCache(str(folder))
  with pytest.MonkeyPatch.context() as patch:
    caching = types.SimpleNamespace(**vars(jinja2))
    caching.Environment = functools.partial(
      jinja2.Environment, bytecode_cache=cache
    )
    patch.setattr(html, 'jinja2', caching)
    yield
