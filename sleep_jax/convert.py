"""Entry: checkpoints in and out.

python -m sleep_jax.convert inspect --model=FOLDER
python -m sleep_jax.convert in --model=FOLDER --to=WORKDIR [--config=FILE]
python -m sleep_jax.convert out --model=WORKDIR --to=FOLDER [--distil]
python -m sleep_jax.convert out --model=WORKDIR --to=FILE.safetensors --experts
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

_MODEL = flags.DEFINE_string(
  'model', None, 'A work directory, or a Hugging Face model directory.'
)
_STRATEGY = flags.DEFINE_string(
  'strategy', 'sleep', 'Whose life, of a work directory.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Likewise.')
_TO = flags.DEFINE_string('to', None, 'What is written; must not be there.')
_EXPERTS = flags.DEFINE_bool(
  'experts', False, 'Out: experts alone, as one file with a card.'
)
_CONFIG = config_flags.DEFINE_config_file(
  'config', 'configs/documents.py', 'In: levels and seeds of the studies that '
  'will name it as config.pretrain.restore.', lock_config=True,
)  # fmt: skip
_DISTIL = flags.DEFINE_bool(
  'distil', False, 'Out: where no exact export is, one that has learned to say '
  'the same.',
)  # fmt: skip
_STEPS = flags.DEFINE_integer('steps', 400, 'Of distilling.', 1)
_BATCH = flags.DEFINE_integer('batch', 32, 'Texts of one such step.', 1)
_MAX_NEW = flags.DEFINE_integer('max_new', 64, 'Tokens of such a text.', 1)
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'Of what is read and written.'
)


def main(argv):
  what = {'in': _in, 'out': _out, 'inspect': _inspect}
  if len(argv) != 2 or argv[1] not in what:
    raise app.UsageError(f'Say one of {tuple(what)} first; got {argv[1:]}.')
  logging.set_verbosity(logging.ERROR)
  if argv[1] != 'inspect' and not _TO.value:
    raise app.UsageError(f'{argv[1]} needs --to.')
  try:
    what[argv[1]]()
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(1)


def _open():
  from sleep_jax.interop import open_model

  return open_model.open_model(
    _MODEL.value, strategy=_STRATEGY.value, seed=_SEED.value,
    dtype=_DTYPE.value,
  )  # fmt: skip


def _inspect():
  from sleep_jax.interop import dense_mlp, expert_file

  opened = _open()
  c, params = opened.model.config, opened.weights.params
  count = sum(x.size for x in params.values())
  print(
    f'{_MODEL.value}: {count:,} parameters\n'
    f'  {c.num_layers} blocks of width {c.width}, {c.num_heads} heads on '
    f'{c.num_kv_heads}, {c.vocab_size} words\n'
    f'  {c.num_levels} levels, {c.arrangement}; experts routed by {c.router}'
  )
  for level, slots in expert_file.active_slots(opened.weights).items():
    print(f'  level {level}: experts {slots}')
  for row in opened.expert_history:
    print(f'  night {row["night"]}: level {row["level"]}, expert '
          f'{row["slot"]}, {row["event"]}')  # fmt: skip
  reason = dense_mlp.reason_not_dense(
    opened.model, opened.weights, opened.base_model
  )
  print(f'  dense export: {reason or "exact"}')


def _in():
  from sleep_jax.runs import hf_start

  hf_start.import_model(_CONFIG.value, _TO.value, _MODEL.value)
  print(f'written: {_TO.value}; live on from it with --config.pretrain.restore')


def _out():
  from sleep_jax.interop import expert_file, hf_export

  opened = _open()
  if _EXPERTS.value:
    expert_file.save(
      opened.model, opened.weights, _TO.value, expert_history=opened.expert_history
    )
  else:
    model, weights = opened.model, opened.weights
    if _DISTIL.value:
      model, weights = _distilled(opened)
    hf_export.save(
      model,
      weights,
      _TO.value,
      tokenizer=opened.tokenizer,
      base_model=opened.base_model,
      dtype=_DTYPE.value,
    )
  print(f'written: {_TO.value}')


def _distilled(opened):
  import jax

  from sleep_jax.interop import distilled_export, open_model

  prompts = open_model.stored_prompts(
    opened, _MODEL.value, strategy=_STRATEGY.value, seed=_SEED.value
  )
  return distilled_export.distil(
    opened.model, opened.weights, prompts, jax.random.key(_SEED.value),
    eos=opened.tokenizer.eos, log_fn=print,
    settings=distilled_export.Settings(
      steps=_STEPS.value, batch=_BATCH.value, max_new=_MAX_NEW.value
    ),
  )  # fmt: skip


if __name__ == '__main__':
  flags.mark_flags_as_required(['model'])
  app.run(main)
