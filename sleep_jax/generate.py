"""Continue prompts with a run or a Hugging Face checkpoint.

sleep-jax generate --model=FOLDER --prompt='Once upon'
"""

import sys

from absl import app, flags

from sleep_jax import errors
from sleep_jax.runs import command_line

_MODEL = flags.DEFINE_string(
  'model', None,
  'Work directory of a run, Hugging Face model directory, GGUF file, or name '
  'of a model that was fetched.',
)  # fmt: skip
_STRATEGY = flags.DEFINE_string(
  'strategy', 'sleep', 'Which strategy of a work directory.'
)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Which seed of a work directory; also seeds sampling.'
)
_PROMPT = flags.DEFINE_multi_string(
  'prompt', None, 'A text to continue; may be given several times.'
)
_MAX_NEW = flags.DEFINE_integer(
  'max_new', 64, 'Maximum number of new tokens per prompt.', 1
)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', 0.0, 'Sampling temperature; 0: take the likeliest token.', 0.0
)
_TOP_K = flags.DEFINE_integer(
  'top_k', 0, 'Number of likeliest tokens to sample from; 0: all.', 0
)
_TOP_P = flags.DEFINE_float(
  'top_p', 1.0, 'Sample from the likeliest tokens of this total probability.',
  0.0, 1.0,
)  # fmt: skip
_CHAT = flags.DEFINE_bool(
  'chat', False, 'Each prompt is a message, in the chat template of the model.'
)
_EXPERTS = flags.DEFINE_string(
  'experts', None, 'A file of experts to attach to the model.'
)
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'],
  'Type of the parameters of a Hugging Face model.',
)  # fmt: skip


def main(argv):
  del argv  # The parser refuses words that are no flags.
  try:
    _run()
  except (errors.SleepJaxError, ValueError, OSError) as error:
    command_line.exit_with_error(error)
  except KeyboardInterrupt:
    print(file=sys.stderr)
    sys.exit(130)


def _run():
  command_line.show_errors_only()
  from sleep_jax import api

  learner = api.load(
    _MODEL.value, strategy=_STRATEGY.value, seed=_SEED.value,
    dtype=_DTYPE.value, experts=_EXPERTS.value,
  )  # fmt: skip
  prompts = _PROMPT.value
  sampling = dict(
    max_new=_MAX_NEW.value, temperature=_TEMPERATURE.value,
    top_k=_TOP_K.value, top_p=_TOP_P.value,
  )  # fmt: skip
  stream = (
    learner.stream_answers(prompts, **sampling)
    if _CHAT.value
    else learner.stream(prompts, **sampling)
  )
  texts = ['' if _CHAT.value else prompt for prompt in prompts]
  alone = len(prompts) == 1  # Only a single text is shown as it comes.
  if alone:
    print(texts[0], end='', flush=True)
  for pieces in stream:
    texts = [a + b for a, b in zip(texts, pieces, strict=True)]
    if alone:
      print(pieces[0], end='', flush=True)
  print('' if alone else '\n'.join(texts))


if __name__ == '__main__':
  flags.mark_flags_as_required(['model', 'prompt'])
  app.run(main, flags_parser=command_line.parser())
