"""Plans for one GPU, compared with values that were worked out by hand."""

import dataclasses

import pytest

from configs import gpu as config
from sleep_jax import errors
from sleep_jax.model import config as config_lib
from sleep_jax.planning import (
  ahead_of_time,
  chips,
  gpu,
  memory,
  memory_kinds,
  plan,
  run_shape,
  text,
  work,
)
from sleep_jax.sleep import settings_checks

MESH = dict(data=1, fsdp=1, sequence=1, tensor=1)
SMALL = gpu.parse('gpu:8GB')


def _plan(argument, topology):
  return plan.plan(config.get_config(argument), gpu.parse(topology))


def _config(size):
  """Returns a day and a night of short rows, with numbers that stay."""
  c = config.get_config(f'{size}:pages')
  c.consolidate.teachers = tuple(
    teacher | dict(sequences=12, draws=96) for teacher in c.consolidate.teachers
  )
  c.consolidate.update(
    num_updates=80, updates_per_round=10, micro_batches=1, max_length=48,
    prompt_width=32, max_new=32,
  )  # fmt: skip
  return c


@pytest.fixture(scope='module')
def small():
  return plan.plan(_config('llama3-1b'), SMALL)


@pytest.mark.parametrize(
  'name, card, gigabytes, teraflops',
  [
    ('gpu:8GB', 'rtx-3070', 8, 40.6),
    ('gpu:24gb', 'rtx-3090', 24, 71),
    ('gpu:80GB', 'a100-80gb', 80, 312),
    ('gpu:RTX-4090', 'rtx-4090', 24, 165.2),
  ],
)
def test_a_size_or_a_card_is_found(name, card, gigabytes, teraflops):
  found = gpu.find(name)
  assert (found.card, found.num_devices) == (card, 1)
  assert found.chip_for('bfloat16').bytes == 0.95 * gigabytes * 2**30
  assert found.chip_for('bfloat16').flops == teraflops * 1e12
  assert found.chip_for('float32').flops == teraflops / 2 * 1e12


def test_an_unknown_card_lists_the_known_ones():
  with pytest.raises(errors.ConfigError, match='gpu:24GB, .*gpu:h100-80gb'):
    gpu.find('gpu:12GB')
  with pytest.raises(errors.ConfigError, match="for one GPU 'gpu:24GB'"):
    gpu.find('v9:2x2')


@pytest.mark.parametrize(
  'size, parameters',
  [
    # Embedding; blocks of attention, MLP and two norms; norm; head of 8B.
    (
      'llama3-1b', 128_256 * 2048
      + 16 * (2 * 2048 * (2048 + 512) + 3 * 2048 * 8192 + 2 * 2048) + 2048,
    ),
    (
      'llama3-3b', 128_256 * 3072
      + 28 * (2 * 3072 * (3072 + 1024) + 3 * 3072 * 8192 + 2 * 3072) + 3072,
    ),
    (
      'llama3-8b', 2 * 128_256 * 4096
      + 32 * (2 * 4096 * (4096 + 1024) + 3 * 4096 * 14_336 + 2 * 4096) + 4096,
    ),
  ],
)  # fmt: skip
def test_shapes_have_the_parameters_of_their_models(size, parameters):
  found = _plan(size, 'gpu:80GB')
  assert found['parameters'][memory_kinds.FROZEN] == parameters
  kept = found['programs']['night']['kept']
  assert kept[memory_kinds.FROZEN] == 2 * parameters  # bf16


def test_arrays_are_not_padded(small):
  """A level of 256 hidden units and ten experts of rank 32, all in f32."""
  level = 16 * 3 * 2048 * 256
  experts = 16 * 10 * (2 * 2048 * 32 + 2048 + 1)
  kept = small['programs']['wake']['kept']
  assert kept[memory_kinds.LEARNED] == 4 * (level + experts)
  assert kept['gradient sums'] == kept['anchors'] == 4 * level
  assert SMALL.array_bytes((3, 1000), 4) == 12_000


def test_times_of_parts_are_added():
  """An estimate reaches 40 % of the speed and 60 % of the bandwidth."""
  chip = chips.Chip(flops=10e12, bytes=0, bandwidth=100e9)
  parts = [
    work.Work(flops=4e12),  # 1 s at 4 TFLOP/s.
    work.Work(passes=1, reads=50, caches=9e9),  # 60 GB, 1 s at 60 GB/s.
    work.Work(flops=2e12, reads=60),  # 0.5 s and 1 s.
  ]
  seconds = work.estimated_seconds(parts, chip, gpu.EFFICIENCY, MESH, 1e9)
  assert seconds == pytest.approx(3.0)
  whole = work.total(parts)
  # At the peaks, all at once: 6 TFLOP, or 111 passes over 1 GB and 9 GB.
  assert whole.seconds(chip, MESH, 1e9) == pytest.approx(1.2)


def test_a_night_of_1b_takes_as_long_as_its_products(small):
  """Worked out by hand for 24 rows of 48 tokens and 2 x 96 draws."""
  block = 2 * 2048 * (2048 + 512) + 3 * 2048 * (8192 + 256) + 2 * 2048 * 320
  scores = 2 * 32 * 64  # Per token and position.
  head = 2048 * 128_256
  forward = 16 * (block + 48 * scores) + 2 * 32 / 48 * head
  update = 24 * 48 * (3 * 2 * forward + 2 * 16 * 2 * 2048 * 32)
  prompts = 96 * 32 * 2 * 16 * (block + 32 * scores)
  tokens = 96 * 32 * 2 * (16 * (block + 48 * scores) + head)
  teacher = 96 * 48 * 2 * 16 * (block + 48 * scores)
  flops = 10 * update + 2 * (prompts + tokens + teacher)
  night = small['programs']['night']
  assert night['flops'] == pytest.approx(flops)
  # Nothing is limited by the bandwidth.
  assert night['estimated_seconds'] == pytest.approx(flops / 0.4 / 40.6e12)
  assert small['rounds'] == 8
  minutes = text.estimated_minutes(small)['night']
  assert minutes == pytest.approx(8 * 8.75 / 60, rel=1e-3)
  assert 'a night of 8 rounds: about 1.17 minutes' in text.format_plan(small)
  assert 'no GPU was measured' in text.format_plan(small)


def _shape(c):
  return run_shape.RunShape(
    ahead_of_time.build_model(c).config, c,
    settings_checks.make_settings(**c.consolidate.to_dict()), 2, MESH,
  )  # fmt: skip


def test_sampling_few_rows_is_limited_by_the_bandwidth():
  c = _config('llama3-8b')
  c.consolidate.teachers[0].update(draws=1)
  _, _, decode, *_ = work.night_parts(_shape(c))  # After updates and prompts.
  # 32 tokens of a row read 64 positions: keys and values of 32 blocks, 8 heads
  # of 128 numbers in bf16.
  assert decode.caches == 32 * 64 * 2 * 32 * 8 * 128 * 2
  card = gpu.parse('gpu:80GB').chip_for('bfloat16')
  seconds = work.estimated_seconds([decode], card, gpu.EFFICIENCY, MESH, 16e9)
  assert seconds == pytest.approx((32 * 16e9 + decode.caches) / 0.6 / 2039e9)


def test_short_rows_of_a_teacher_cost_less():
  """Rows of 16 tokens, 8 of them new, beside rows of 48 with 32."""
  c = _config('llama3-1b')
  c.consolidate.teachers[1].update(max_length=16, max_new=8)
  shape = _shape(c)
  block, scores = shape.num_block_parameters, 2 * 32 * 64
  head, expert = 2048 * 128_256, 2 * 16 * 2 * 2048 * 32

  def update(rows, length, new):
    forward = 16 * (block + length * scores) + 2 * new / length * head
    return rows * length * (3 * 2 * forward + expert)

  updates, *parts = work.night_parts(shape)
  assert updates.flops == pytest.approx(
    10 * (update(12, 48, 32) + update(12, 16, 8))
  )
  assert updates.passes == 10 * 2 * 3  # Two lengths; forward twice, backward.
  long, short = parts[1], parts[4]  # Of prompts, tokens and teacher.
  assert (long.reads, short.reads) == (32, 8)
  assert short.caches / 8 / (16 + 8) == long.caches / 32 / (32 + 32)


def test_a_teacher_that_reads_documents_has_them_in_its_cache():
  """Rows of 512 tokens in front of 32 prompt tokens and 32 new ones."""
  c = _config('llama3-8b')
  alone = _shape(c)
  c.consolidate.teachers[1].update(teacher='context')
  shape = _shape(c)
  assert [shape.document_length(t) for t in shape.night.teachers] == [0, 512]
  (_, _, without, *_), (*_, with_it, _) = map(work.night_parts, (alone, shape))
  assert with_it.caches / (512 + 32 + 32) == without.caches / (32 + 32)
  needed = memory.estimate_night(shape)
  assert needed[memory_kinds.CACHES] == 96 * (512 + 64) * shape.cache_bytes


def test_the_rows_of_the_kl_penalty_are_read_too():
  c = _config('llama3-1b')
  alone = work.wake_step(_shape(c)).flops
  c.wake.kl_penalty.update(weight=0.3, sequences=8, max_length=16, max_new=8)
  shape = _shape(c)
  forward = 16 * (shape.num_block_parameters + 16 * 2 * 32 * 64)
  forward += 2 * 8 / 16 * 2048 * 128_256  # Logits of both models.
  trained = 16 * 3 * 2048 * 256
  assert work.wake_step(shape).flops - alone == pytest.approx(
    8 * 16 * 2 * (3 * forward + trained)
  )


def test_gated_experts_have_a_third_matrix():
  c = _config('llama3-1b')
  before = _shape(c)
  c.model.gated_experts = True
  after = _shape(c)
  more = 10 * 2048 * 32
  assert after.num_block_parameters - before.num_block_parameters == more
  assert after.num_expert_parameters == 3 * 16 * 2048 * 32


def test_what_does_not_fit_is_named_with_what_one_gpu_can_change():
  fits = _plan('llama3-3b', 'gpu:24GB')
  assert not fits['too_much'] and not fits['uneven']
  assert fits['wake_steps']  # In steps, so that the day has minutes.
  wake, night = _plan('llama3-8b:pages', 'gpu:24GB')['too_much']
  assert 'use a smaller model, or use a card with more memory' in wake
  assert 'mesh' not in wake + night and 'chips' not in wake + night


def test_attention_is_what_the_gpu_has():
  model = dataclasses.replace(
    config_lib.Model(0, 8, 1, 1, 1, 8, ()), attention='auto'
  )
  assert SMALL.attention_kernel(model, 'bfloat16') == 'cudnn'
  assert SMALL.attention_kernel(model, 'float32') == 'xla'
  capped = dataclasses.replace(model, attention_cap=5.0)
  assert SMALL.attention_kernel(capped, 'bfloat16') == 'xla'
  with pytest.raises(errors.ConfigError, match="'splash', which runs on TPUs"):
    SMALL.attention_kernel(
      dataclasses.replace(model, attention='splash'), 'bfloat16'
    )
  with pytest.raises(errors.ConfigError, match='on a machine that has one'):
    SMALL.devices()


def test_an_unknown_day_is_refused():
  with pytest.raises(ValueError, match="day is 'week': expected one of facts"):
    config.get_config('llama3-1b:week')
