"""The guard of a pretrained model: texts that the initial model wrote itself.

A model that is not changed predicts its own samples at their entropy. What a
night costs is the loss it adds there, in nats a token, which is an unbiased
estimate of KL(initial model || model). The requests are other ones than those
that are reported, and some texts begin with nothing at all.
"""

import json
from collections.abc import Sequence

import numpy as np

from sleep_jax import errors, types
from sleep_jax.evaluate import ability, asking, everyday_prompts
from sleep_jax.runtime import processes
from sleep_jax.storage import workdir

# With the requests one batch of `asking`. 960 tokens in all: a change of 0.02
# nats a token has a standard error of about 0.006.
_NUM_FREE, _MAX_NEW = 4, 48
_SEED = 1
_RECORD = 'own_texts.json'


class OwnTexts:
  """Texts of the initial model of a seed, on which later models are scored.

  Args:
    model, first, tokenizer: the initial model: network, weights, tokenizer.
    form: how it is asked.
    folder: keeps the texts, so that a resumed run has the same.
  """

  def __init__(
    self,
    model: types.Model,
    first: types.Weights,
    tokenizer: types.Tokenizer,
    form: asking.Form,
    folder: workdir.Folder,
  ):
    self._model, self._first, self._tokenizer = model, first, tokenizer
    self._form, self._folder = form, folder
    self._texts: Sequence[ability.Target] | None = None

  def score(self, weights: types.Weights) -> float:
    """Returns the mean log-likelihood of the texts, nats a token.

    Raises:
      WorkdirError: the file with the texts is damaged.
    """
    if self._texts is None:
      self._texts = self._read_or_write()
    nats_M = ability.text_nats(self._model, weights, self._texts)
    return -float(np.mean(nats_M, dtype=np.float64))

  def _read_or_write(self) -> Sequence[ability.Target]:
    file = self._folder / _RECORD
    # All processes decide alike, before the first one writes.
    if processes.any_of((file.exists(),))[0]:
      try:
        saved = json.loads(file.read_text())
        return ability.targets(saved['prompts'], saved['answers'])
      except (ValueError, KeyError, TypeError) as error:
        raise errors.WorkdirError(
          f'{file} is damaged ({error}): delete it, and the initial model '
          'writes the texts again.'
        ) from error
    prompts = [self._form.ask(text) for text in everyday_prompts.GUARD]
    prompts += [[self._tokenizer.bos]] * _NUM_FREE
    answers = asking.generate(
      self._model, self._first, prompts, max_new=_MAX_NEW, ends=self._form.ends,
      temperature=1.0, seed=_SEED,
    )  # fmt: skip
    if processes.is_first():
      workdir.write_json(file, {
        'prompts': prompts, 'answers': answers,
        'texts': [self._tokenizer.decode(answer) for answer in answers],
      })  # fmt: skip
    return ability.targets(prompts, answers)
