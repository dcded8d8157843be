"""Real GGUF files are read as transformers reads them.

Runs with `bash launch/parity.sh`, if the models were fetched: sleep-jax convert
fetch smollm2 gives about 100 MB of files.
"""

import pytest

for package in ('torch', 'transformers', 'gguf', 'regex'):
  pytest.importorskip(
    package, reason=f'{package} is not installed: bash launch/parity.sh'
  )

from sleep_jax.storage import known_models  # noqa: E402
from tests.parity import gguf_models  # noqa: E402

TOLERANCE = 2e-4


@pytest.mark.parametrize('name', ['smollm2', 'gemma3-270m'])
def test_logits_text_and_tokens_are_those_of_transformers(name):
  if not known_models.folder(name).is_dir():
    pytest.skip(f'{name} was not fetched: sleep-jax convert fetch {name}')
  found = gguf_models.compare(known_models.locate(name))
  assert found['spread'] > 1
  assert found['largest_difference'] <= TOLERANCE
  assert found['same_greedy_texts'] == f'{len(gguf_models.PROMPTS)} of 4'
  assert found['same_tokens'] and found['compared_tokens'] > 2000
