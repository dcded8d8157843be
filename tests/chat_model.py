"""A tokenizer with control tokens and a chat template, for tests."""

import json
import pathlib

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

SPECIAL = (
  '<s>', '</s>', '<unk>', '<pad>', '<|start|>', '<|stop|>', '<|head|>',
  '<|tail|>', '<|user|>', '<|assistant|>', '<|system|>',
)  # fmt: skip
ADDED = (  # Not special.
  '<think>', '</think>', '<call>',
)  # fmt: skip
TEXTS = (
  'the cat sat on the mat and the dog ran home after the cat',
  'was built in a house; builtin words are built out of letters',
  'Hello there, how are you? I am fine.\n\nThank you!\n',
  'user assistant system Today Date What is 2+2? na\u00efve \u96ea',
)  # fmt: skip


def save_tokenizer(
  home: pathlib.Path,
  *,
  add_bos: bool = False,
  template: str | list | None = None,
  **fields: object,
) -> tokenizers.Tokenizer:
  """Writes tokenizer.json and tokenizer_config.json of a byte-level BPE."""
  home.mkdir(parents=True, exist_ok=True)
  made = tokenizers.Tokenizer(models.BPE())
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = decoders.ByteLevel()
  made.train_from_iterator(
    TEXTS * 3,
    trainers.BpeTrainer(
      vocab_size=360, special_tokens=list(SPECIAL), show_progress=False,
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    ),
  )  # fmt: skip
  made.add_tokens([
    tokenizers.AddedToken(name, special=False, normalized=False)
    for name in ADDED
  ])  # fmt: skip
  byte_level = processors.ByteLevel(trim_offsets=False)
  made.post_processor = byte_level
  if add_bos:
    bos = processors.TemplateProcessing(
      single='<s> $A', special_tokens=[('<s>', made.token_to_id('<s>'))]
    )
    made.post_processor = processors.Sequence([byte_level, bos])
  made.save(str(home / 'tokenizer.json'))
  config = dict(
    tokenizer_class='PreTrainedTokenizerFast', bos_token='<s>',
    eos_token='</s>', unk_token='<unk>',
    pad_token={'__type': 'AddedToken', 'content': '<pad>'},
    clean_up_tokenization_spaces=False,
  )  # fmt: skip
  if template is not None:
    config['chat_template'] = template
  (home / 'tokenizer_config.json').write_text(json.dumps(config | fields))
  return made


def save_metaspace_tokenizer(home: pathlib.Path, template: str) -> None:
  """Writes a tokenizer that puts a space before a text, as Llama 2's does."""
  home.mkdir(parents=True, exist_ok=True)
  trained = tokenizers.Tokenizer(models.BPE(unk_token='<unk>'))
  trained.pre_tokenizer = pre_tokenizers.Metaspace()
  special = ['<unk>', '<s>', '</s>', '<|start|>', '<|stop|>']
  trained.train_from_iterator(
    TEXTS * 3,
    trainers.BpeTrainer(
      vocab_size=460, show_progress=False,
      special_tokens=special + [f'<0x{byte:02X}>' for byte in range(256)],
    ),
  )  # fmt: skip
  learned = json.loads(trained.to_str())['model']
  merges = [tuple(merge) for merge in learned['merges']]
  made = tokenizers.Tokenizer(
    models.BPE(
      vocab=learned['vocab'], merges=merges, unk_token='<unk>',
      byte_fallback=True, fuse_unk=True,
    )
  )  # fmt: skip
  made.pre_tokenizer = pre_tokenizers.Metaspace(
    prepend_scheme='first', split=False
  )
  made.decoder = decoders.Sequence([
    decoders.Replace('\u2581', ' '), decoders.ByteFallback(), decoders.Fuse(),
    decoders.Strip(' ', 1, 0),
  ])  # fmt: skip
  made.add_special_tokens(special)
  made.save(str(home / 'tokenizer.json'))
  config = dict(
    tokenizer_class='LlamaTokenizer', bos_token='<s>', eos_token='</s>',
    unk_token='<unk>', chat_template=template,
  )  # fmt: skip
  (home / 'tokenizer_config.json').write_text(json.dumps(config))
