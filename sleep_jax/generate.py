"""Entry: python -m sleep_jax.generate --model=FOLDER --prompt='Once upon'."""

import sys

from absl import app, flags, logging

_MODEL = flags.DEFINE_string(
  'model', None, 'A work directory, or a Hugging Face model directory.'
)
_STRATEGY = flags.DEFINE_string(
  'strategy', 'sleep', 'Whose life, of a work directory.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Likewise, and of drawing.')
_PROMPT = flags.DEFINE_multi_string(
  'prompt', None, 'What to go on with; may be given several times.'
)
_MAX_NEW = flags.DEFINE_integer('max_new', 64, 'Tokens, at most.', 1)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', 0.0, '0: the likeliest token, always.', 0.0
)
_TOP_K = flags.DEFINE_integer('top_k', 0, 'Likeliest tokens; 0: all.', 0)
_TOP_P = flags.DEFINE_float('top_p', 1.0, 'Mass of the likeliest.', 0.0, 1.0)
_CHAT = flags.DEFINE_bool(
  'chat', False, 'Each prompt is a message to the model, in its own template.'
)
_EXPERTS = flags.DEFINE_string(
  'experts', None, 'A file of experts to put beside the model.'
)
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'Of a Hugging Face model.'
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments {argv[1:]}: flags start with --.')
  try:
    _run()
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(1)
  except KeyboardInterrupt:
    print(file=sys.stderr)
    sys.exit(130)


def _run():
  import jax

  from sleep_jax.data import detokenizer
  from sleep_jax.interop import expert_file, open_model
  from sleep_jax.model import streaming

  logging.set_verbosity(logging.ERROR)
  opened = open_model.open_model(
    _MODEL.value, strategy=_STRATEGY.value, seed=_SEED.value,
    dtype=_DTYPE.value,
  )  # fmt: skip
  model, weights = opened.model, opened.weights
  if _EXPERTS.value:
    model, weights = expert_file.attach(model, weights, _EXPERTS.value)
  tokenizer = opened.tokenizer
  prompts = [_asked(opened, text) for text in _PROMPT.value]
  said = [detokenizer.Detokenizer(tokenizer) for _ in prompts]
  texts = ['' for _ in prompts]
  alone = len(prompts) == 1  # Only one can be shown as it comes.
  shown = ['' if _CHAT.value else text for text in _PROMPT.value]
  if alone:
    print(shown[0], end='', flush=True)
  for tokens in streaming.stream(
    model, weights, prompts, jax.random.key(_SEED.value),
    max_new=_MAX_NEW.value, ends=opened.end_tokens, temperature=_TEMPERATURE.value,
    top_k=_TOP_K.value, top_p=_TOP_P.value,
  ):  # fmt: skip
    for row, token in enumerate(tokens):
      piece = '' if token is None else said[row].add(token)
      texts[row] += piece
      if alone:
        print(piece, end='', flush=True)
  for row, text in enumerate(texts):
    rest = said[row].end()
    print(rest if alone else f'{shown[row]}{text}{rest}')


def _asked(opened, text: str) -> list[int]:
  """A prompt in tokens: to be gone on with, or to be answered."""
  from sleep_jax.data import chat_template

  if not _CHAT.value:
    return [opened.tokenizer.bos, *opened.tokenizer.encode(text)]
  if opened.base_model is None:
    raise ValueError(
      '--chat: a model that was born here has no chat template. Leave it out.'
    )
  template = chat_template.ChatTemplate(str(opened.base_model.folder), opened.end_tokens)
  return template.encode([{'role': 'user', 'content': text}])


if __name__ == '__main__':
  flags.mark_flags_as_required(['model', 'prompt'])
  app.run(main)
