"""Which blocks of a config.json are local, and which have no positions."""

import pathlib
from typing import Any

from sleep_jax import errors
from sleep_jax.interop import hf_fields
from sleep_jax.model import config as config_lib

LOCAL, GLOBAL = 'sliding_attention', 'full_attention'
QWEN = ('qwen2', 'qwen3')
# Defaults of transformers: sliding_window, max_window_layers,
# sliding_window_pattern, no_rope_layer_interval.
_WINDOW, _FIRST_LOCAL, _PATTERN, _INTERVAL = 4096, 28, 6, 4
_OLD_GLOBAL = 'attention'  # transformers still reads it.


def settings(config: hf_fields.Config, path: pathlib.Path) -> dict[str, Any]:
  """Returns `window`, `local` and `rotated` of `model.config.Model`.

  Args:
    config: content of config.json.
    path: path of the file, for messages.

  Raises:
    ModelFileError: a field is not supported. The message names it.
  """
  model_type = config['model_type']
  num_layers = hf_fields.positive_int(config, 'num_hidden_layers', path)
  rotated = _rotated(config, num_layers, path)
  window = _window(config, path)
  local = _default_local(config, window, rotated, path)
  layer_types = _layer_types(config, num_layers, path)
  if layer_types is not None:
    default, local = local, [name == LOCAL for name in layer_types]
    # transformers has no window in these architectures.
    if model_type in ('llama', 'olmo2') and local != default:
      hf_fields.fail(
        path, 'layer_types', layer_types,
        f'{GLOBAL!r} for every block, as {model_type} has no local blocks',
      )  # fmt: skip
  if any(local) and not window:
    raise errors.ModelFileError(
      f'{path}: some blocks are {LOCAL!r}, but sliding_window is off or null: '
      'set it to the number of tokens that they attend to.'
    )
  made: dict[str, Any] = {}
  if window and any(local):
    made |= dict(window=window, local=tuple(local))
  return made if all(rotated) else made | dict(rotated=rotated)


def _window(config, path) -> int:
  """Returns the tokens that local blocks attend to; 0 if there is no window."""
  model_type = config['model_type']
  if model_type in ('llama', 'olmo2'):
    return 0
  on = hf_fields.flag(config, 'use_sliding_window', False, path)
  if model_type in QWEN and not on:
    return 0
  default = None if model_type == 'smollm3' else _WINDOW
  return hf_fields.optional_int(config, 'sliding_window', default, path) or 0


def _default_local(config, window, rotated, path) -> list[bool]:
  """Returns which blocks are local if layer_types does not say it."""
  model_type, layers = config['model_type'], range(len(rotated))
  if model_type == 'gemma3_text':  # The last layer of each pattern is global.
    pattern = hf_fields.positive_int(
      {'sliding_window_pattern': _PATTERN} | dict(config),
      'sliding_window_pattern',
      path,
    )
    return [(layer + 1) % pattern != 0 for layer in layers]
  if model_type == 'smollm3':
    on = hf_fields.flag(config, 'use_sliding_window', False, path)
    return [on and window > 0 and not rotates for rotates in rotated]
  if model_type in QWEN:
    first = config.get('max_window_layers', _FIRST_LOCAL)
    if type(first) is not int or first < 0:
      hf_fields.fail(path, 'max_window_layers', first, 'an integer, 0 or more')
    return [window > 0 and layer >= first for layer in layers]
  return [window > 0] * len(layers)


def _layer_types(config, num_layers, path) -> list[str] | None:
  found = config.get('layer_types')
  if isinstance(found, list):
    found = [GLOBAL if name == _OLD_GLOBAL else name for name in found]
  return hf_fields.names(
    {'layer_types': found}, 'layer_types', (LOCAL, GLOBAL), num_layers, path
  )


def _rotated(config, num_layers, path) -> tuple[bool, ...]:
  """Returns for each block whether it has rotary positions."""
  if config['model_type'] != 'smollm3':
    return (True,) * num_layers
  found = config.get('no_rope_layers')
  if found is None:
    interval = hf_fields.positive_int(
      {'no_rope_layer_interval': _INTERVAL} | dict(config),
      'no_rope_layer_interval',
      path,
    )
    return tuple((layer + 1) % interval != 0 for layer in range(num_layers))
  # A list that is longer than the model is cut, as in transformers.
  if (
    not isinstance(found, list)
    or len(found) < num_layers
    or any(type(x) is not int or x not in (0, 1) for x in found)
  ):
    hf_fields.fail(
      path, 'no_rope_layers', found,
      f'{num_layers} entries: 1 for a block with rotary positions, 0 for a '
      'block without',
    )  # fmt: skip
  return tuple(x == 1 for x in found[:num_layers])


def fields(config: config_lib.Model, model_type: str) -> dict[str, Any]:
  """Returns the config.json fields of local attention, in both formats."""
  if not config.window:
    return {}
  if model_type not in QWEN:
    return dict(sliding_window=config.window)
  return dict(
    sliding_window=config.window,
    use_sliding_window=True,
    max_window_layers=config.local.index(True),
    layer_types=[LOCAL if local else GLOBAL for local in config.local],
  )
